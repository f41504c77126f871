//! Decoding of messages: as prost does it, but a transaction that is nested too deep for it gets
//! etcd's answer.
//!
//! To a client, the limit of a decoder is a limit like any other. gRPC's own answer to bytes that
//! cannot be decoded (`INTERNAL`) would say that the request was garbage, and leave open whether it
//! was carried out.

use crate::etcdserverpb::TxnRequest;
use crate::limits::TXN_DEPTH_MAX;
use prost::Message;
use prost::bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use std::any::TypeId;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

/// The codec of every service; `T` is sent, `U` received.
#[derive(Debug, Clone)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = MessageDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        MessageDecoder(PhantomData)
    }
}

/// Decodes one message after the other.
#[derive(Debug, Clone)]
pub struct MessageDecoder<U>(PhantomData<U>);

impl<U: Message + Default + 'static> Decoder for MessageDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buf.copy_to_bytes(buf.remaining());
        let too_deep =
            || TypeId::of::<U>() == TypeId::of::<TxnRequest>() && nested_deeper(bytes.clone(), TXN_DEPTH_MAX);
        U::decode(bytes.clone()).map(Some).map_err(|error| match too_deep() {
            true => Status::invalid_argument("etcdserver: too many operations in txn request"),
            false => Status::internal(error.to_string()),
        })
    }
}

/// True if `bytes`, a [`TxnRequest`], holds more than `max` transactions inside of each other, as
/// far as it can be read.
fn nested_deeper(bytes: Bytes, max: usize) -> bool {
    const BRANCHES: [u32; 2] = [2, 3];
    const NESTED: [u32; 1] = [4];
    let mut level = vec![bytes];
    // Level by level, so that the depth costs no stack: a transaction's operations, then the
    // transactions among them.
    for _ in 0..=max {
        let operations: Vec<Bytes> = level.into_iter().flat_map(|txn| fields(txn, &BRANCHES)).collect();
        level = operations.into_iter().flat_map(|op| fields(op, &NESTED)).collect();
        if level.is_empty() {
            return false;
        }
    }
    true
}

/// Contents of the fields called `tags`, up to the end of `message` or to bytes that are not a
/// field.
fn fields(mut message: Bytes, tags: &[u32]) -> Vec<Bytes> {
    let mut found = Vec::new();
    while message.has_remaining() {
        let Ok((tag, wire)) = decode_key(&mut message) else { break };
        if wire != WireType::LengthDelimited {
            if skip_field(wire, tag, &mut message, DecodeContext::default()).is_err() {
                break;
            }
            continue;
        }
        let length = decode_varint(&mut message).ok().and_then(|length| usize::try_from(length).ok());
        let Some(length) = length.filter(|length| *length <= message.remaining()) else { break };
        let field = message.split_to(length);
        if tags.contains(&tag) {
            found.push(field);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcdserverpb::request_op::Request;
    use crate::etcdserverpb::{PutRequest, RequestOp};

    /// `depth` transactions around one that puts, encoded from the inside out: prost's encoder
    /// would recurse.
    fn nested(depth: usize) -> Bytes {
        let put = RequestOp { request: Some(Request::RequestPut(PutRequest::default())) };
        let mut bytes = TxnRequest { success: vec![put], ..TxnRequest::default() }.encode_to_vec();
        for _ in 0..depth {
            for tag in [4, 2] {
                let mut outer = Vec::with_capacity(bytes.len() + 6);
                prost::encoding::bytes::encode(tag, &bytes, &mut outer);
                bytes = outer;
            }
        }
        bytes.into()
    }

    #[test]
    fn the_depth_is_counted_whatever_it_is() {
        for depth in [0, 1, TXN_DEPTH_MAX, TXN_DEPTH_MAX + 1, 200, 100_000] {
            assert_eq!(nested_deeper(nested(depth), TXN_DEPTH_MAX), depth > TXN_DEPTH_MAX, "{depth}");
        }
        assert!(!nested_deeper(Bytes::from_static(b"\xff\xff"), 0), "what cannot be read is not deep");
    }

    #[test]
    fn what_the_limit_allows_can_be_decoded_inside_of_a_command() {
        let txn = TxnRequest::decode(nested(TXN_DEPTH_MAX)).unwrap();
        let request = Some(crate::command::command::Request::Txn(txn));
        let command = crate::command::Command { request };
        assert_eq!(crate::command::Command::decode(command.encode_to_vec().as_slice()), Ok(command));
    }
}
