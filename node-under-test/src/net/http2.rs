//! HTTP/2 on accepted connections. Every number that is not the library's own default has its
//! reason here.

use super::budget::Class;
use std::time::Duration;
use tonic::transport::Server;

/// Requests, watches and other streams on one connection. Clients of etcd multiplex everything on
/// one, a watch to a stream in some of them; those that want more wait for a stream to end. etcd
/// sets no limit.
const STREAMS_MAX: u32 = 16_384;

/// Bytes that a client may send ahead on one stream: the largest request, so that it needs no
/// second round.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// And on all of a connection. The library takes half of it as the budget for the overhead of small
/// frames that wait to be read: this many bytes are some 17,000 keep-alives. A client with more of
/// them waiting loses its connection (`too_many_data_frames`); with the default of 1 MiB it would
/// at 2,200.
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Of one request. etcd's clients send a token and a few short fields.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Streams that a client opened and reset before the server looked at them: beyond this the
/// connection ends, as an attack. By default that is 20, and a client with 21 requests that time
/// out while this process stands still would lose its connection.
const RESETS_UNSEEN_MAX: usize = 4096;

/// A connection without traffic is pinged after the first time and ended after the second: its
/// other side has gone without a word. Clients are asked less often, because a laptop may have
/// thousands of them.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));
const PING_CLIENTS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Window for snapshots and appended entries: as wide as the sender's own windows.
const PEER_STREAM_WINDOW_BYTES: u32 = 4 << 20;
const PEER_CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

pub fn server(class: Class) -> Server {
    let (interval, timeout) = if class == Class::Clients { PING_CLIENTS } else { PING };
    let (stream, connection) = match class {
        Class::Peers => (PEER_STREAM_WINDOW_BYTES, PEER_CONNECTION_WINDOW_BYTES),
        Class::Clients | Class::Control => (STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES),
    };
    Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(stream)
        .initial_connection_window_size(connection)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_UNSEEN_MAX))
        .http2_keepalive_interval(Some(interval))
        .http2_keepalive_timeout(Some(timeout))
}
