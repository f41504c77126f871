//! Carrying an act out, and what is heard in return.

use super::act::Act;
use crate::timer;
use futures_util::stream;
use ninelives_evidence::limits;
use ninelives_evidence::record::hostile::Return;
use prost::bytes::{Buf, BufMut, Bytes};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Time for an answer; a member may take longer during an election.
const ANSWER: Duration = Duration::from_secs(3);
/// Between two pieces of what is said slowly.
const STRIDE: Duration = Duration::from_millis(100);
/// Pieces of it.
const STRIDES: usize = 40;

/// The return of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Answer,
    Refusal,
    /// The connection ended.
    End,
    Nothing,
}

impl From<Heard> for Return {
    fn from(heard: Heard) -> Self {
        match heard {
            Heard::Answer => Return::Answered,
            Heard::Refusal => Return::Refused,
            Heard::End => Return::Ended,
            Heard::Nothing => Return::Unanswered,
        }
    }
}

/// Does what `act` says to the member whose peer port is `at`.
pub(super) async fn carry_out(act: &Act, at: SocketAddr, channel: &Channel) -> Heard {
    let bound = if act.is_slow() { STRIDE * STRIDES as u32 } else { ANSWER };
    let heard = async {
        match act {
            Act::Bytes { bytes, slowly } => say(at, bytes, *slowly).await,
            Act::Call { path, messages, slowly, .. } => call(channel, path, messages, *slowly).await,
        }
    };
    timer::within(bound, heard).await.unwrap_or(Heard::Nothing)
}

impl Act {
    fn is_slow(&self) -> bool {
        match self {
            Act::Bytes { slowly, .. } | Act::Call { slowly, .. } => *slowly,
        }
    }
}

/// Says `bytes` on a connection of its own, and listens until that ends.
async fn say(at: SocketAddr, bytes: &[u8], slowly: bool) -> Heard {
    let connected = timer::within(limits::CONTROL_CONNECT, TcpStream::connect(at)).await;
    let Some(Ok(mut stream)) = connected else { return Heard::Nothing };
    let pieces = if slowly { bytes.chunks(1) } else { bytes.chunks(bytes.len().max(1)) };
    for piece in pieces {
        if stream.write_all(piece).await.is_err() {
            return Heard::End;
        }
        if slowly {
            timer::sleep(STRIDE).await;
        }
    }
    let mut heard = [0; 256];
    while matches!(stream.read(&mut heard).await, Ok(1..)) {}
    Heard::End
}

async fn call(channel: &Channel, path: &str, messages: &[Bytes], slowly: bool) -> Heard {
    let Ok(path) = path.parse::<PathAndQuery>() else { return Heard::Nothing };
    let messages: Vec<_> = messages.to_vec();
    let said = stream::unfold(messages.into_iter(), move |mut left| async move {
        if slowly {
            timer::sleep(STRIDE).await;
            if left.len() == 0 {
                // It never ends: the bound on the call does.
                return std::future::pending().await;
            }
        }
        left.next().map(|message| (message, left))
    });
    let mut client = Grpc::new(channel.clone());
    if client.ready().await.is_err() {
        return Heard::End;
    }
    let answered = async {
        let mut answers = client.streaming(Request::new(said), path, Raw).await?.into_inner();
        while answers.message().await?.is_some() {}
        Ok::<_, Status>(())
    };
    match answered.await {
        Ok(()) => Heard::Answer,
        // A connection that breaks has these codes as well.
        Err(status) if matches!(status.code(), Code::Unknown | Code::Cancelled) => Heard::End,
        Err(_) => Heard::Refusal,
    }
}

/// Messages as they are.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
