//! The largest message that a client may send, with gRPC's own answer to a larger one.
//!
//! A message of gRPC begins with five bytes: whether it is compressed, and its length. They are
//! read here as they pass by, so a message that is too large is refused before it is received. The
//! transport's own limit would do that too, with a code (`OUT_OF_RANGE`) by which clients of etcd
//! know a revision that is gone; it stays above this one.

use http_body::{Body as HttpBody, Frame, SizeHint};
use node_proto::limits::MESSAGE_BYTES_MAX;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Bytes, Service, http};
use tonic::server::NamedService;

/// A service that is sent no message above the limit.
#[derive(Debug, Clone)]
pub struct Limited<S>(pub S);

impl<S: NamedService> NamedService for Limited<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for Limited<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        self.0.call(request.map(|body| Body::new(Measured { body, messages: Messages::default() })))
    }
}

/// A request's body, which ends with an error where a message is announced that is too large.
struct Measured {
    body: Body,
    messages: Messages,
}

impl HttpBody for Measured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame?;
            if let Some(data) = frame.data_ref() {
                self.messages.pass(data)?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Position in a stream of messages.
#[derive(Debug, Default)]
struct Messages {
    prefix: Vec<u8>,
    /// Bytes of the message that are still to come.
    left: usize,
}

const PREFIX_BYTES: usize = 5;

impl Messages {
    fn pass(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            let part = data.len().min(self.left);
            data = &data[part..];
            self.left -= part;
            let part = data.len().min(PREFIX_BYTES - self.prefix.len());
            self.prefix.extend_from_slice(&data[..part]);
            data = &data[part..];
            if let [_, length @ ..] = self.prefix.as_slice()
                && let Ok(length) = <[u8; 4]>::try_from(length)
            {
                self.left = u32::from_be_bytes(length) as usize;
                self.prefix.clear();
                if self.left > MESSAGE_BYTES_MAX {
                    let found = self.left;
                    return Err(Status::resource_exhausted(format!(
                        "grpc: received message larger than max ({found} vs. {MESSAGE_BYTES_MAX})"
                    )));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tonic::Code;

    fn message(length: usize) -> Vec<u8> {
        [&[0][..], &(length as u32).to_be_bytes(), &vec![7; length]].concat()
    }

    proptest! {
        /// However the bytes are cut, messages pass, and the first one that is too large is refused
        /// by its length alone.
        #[test]
        fn a_message_is_measured_however_it_is_cut(
            lengths in proptest::collection::vec(0usize..40, 0..6),
            cut in 1usize..20,
        ) {
            let mut messages = Messages::default();
            let all: Vec<u8> = lengths.into_iter().flat_map(message).collect();
            for part in all.chunks(cut) {
                prop_assert!(messages.pass(part).is_ok());
            }
            let limit = (MESSAGE_BYTES_MAX as u32).to_be_bytes();
            let above = (MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes();
            prop_assert!(Messages::default().pass(&[&[0][..], &limit].concat()).is_ok());
            let refused = messages.pass(&[&[0][..], &above].concat()).unwrap_err();
            prop_assert_eq!(refused.code(), Code::ResourceExhausted);
            prop_assert_eq!(refused.message(), "grpc: received message larger than max (2097153 vs. 2097152)");
        }
    }
}
