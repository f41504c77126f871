//! Reaching listeners by gRPC.

use ninelives_evidence::limits;
use std::net::SocketAddr;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// The address of a listener as clients of gRPC name it.
pub fn url(at: SocketAddr) -> String {
    format!("http://{at}")
}

/// A channel to the listener at `at`, for calls that no client library makes. It connects with the
/// first of them.
///
/// # Errors
/// The address is not a URI.
pub fn channel(at: SocketAddr) -> Result<Channel, Status> {
    let endpoint = Endpoint::from_shared(url(at)).map_err(|error| Status::internal(error.to_string()))?;
    Ok(endpoint.connect_timeout(limits::CONTROL_CONNECT).connect_lazy())
}

/// The code and the text of an answer that is an error.
pub fn in_words(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
