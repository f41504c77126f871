//! Loopback ports that stay ours for a whole run, across all lives of a member.
//!
//! A holder binds the port with SO_REUSEADDR and never listens. The node, which binds with
//! SO_REUSEADDR as well (the standard library does so on Unix), can then bind and listen beside it,
//! as often as it likes; but the kernel hands the port neither to another `bind` to port 0 nor to
//! an outgoing connection. So harnesses side by side never collide, and no process takes a port
//! while its member is dead.

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Holds one port until it is dropped.
#[derive(Debug)]
pub struct PortHolder {
    address: SocketAddr,
    _socket: OwnedFd,
}

impl PortHolder {
    /// Reserves a free port of 127.0.0.1.
    pub fn reserve() -> io::Result<Self> {
        // Close-on-exec: a node that inherited the holder would keep the port past the harness.
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Free first, shared after: with SO_REUSEADDR already set, port 0 may yield a port that
        // another holder has.
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        let address = SocketAddr::try_from(getsockname(&socket)?)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        Ok(Self { address, _socket: socket })
    }

    /// Reserves the port again that a dead harness held.
    ///
    /// # Errors
    /// Another process listens there.
    pub fn reserve_again(address: SocketAddr) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Set before the bind, because connections of dead processes may still be winding up there.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)?;
        Ok(Self { address, _socket: socket })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_node_can_listen_beside_its_holder_again_and_again() {
        let holder = PortHolder::reserve().unwrap();
        for _ in 0..3 {
            let node = TcpListener::bind(holder.address()).unwrap();
            let _client = TcpStream::connect(holder.address()).unwrap();
            // Accepted and dropped by the server first: its side goes to TIME_WAIT, as after a
            // kill.
            drop(node.accept().unwrap());
        }
    }

    #[test]
    fn a_port_is_reserved_again_unless_somebody_listens_there() {
        let address = PortHolder::reserve().unwrap().address();
        let again = PortHolder::reserve_again(address).unwrap();
        assert_eq!(again.address(), address);
        drop(again);
        let _stranger = TcpListener::bind(address).unwrap();
        assert_eq!(PortHolder::reserve_again(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn nobody_is_given_a_held_port() {
        let holders: Vec<_> = (0..200).map(|_| PortHolder::reserve().unwrap()).collect();
        let held: BTreeSet<_> = holders.iter().map(|holder| holder.address().port()).collect();
        assert_eq!(held.len(), holders.len());
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        for _ in 0..500 {
            let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
            assert!(!held.contains(&stranger.local_addr().unwrap().port()));
            let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
            assert!(!held.contains(&client.local_addr().unwrap().port()));
            drop(server.accept().unwrap());
        }
    }
}
