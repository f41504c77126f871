//! The wire formats that both halves of the project speak, generated from the `.proto` files beside
//! this crate's sources.
//!
//! Nothing here has behaviour but how bytes are decoded: this is the only crate of the node that
//! the harness may link.

#![allow(clippy::all, unused_qualifications, missing_docs)]

pub mod codec;
pub mod delimited;
pub mod limits;
mod peer_methods;

pub use peer_methods::PEER_METHODS;

/// Stored keys and events, as etcd numbers them.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// The part of etcd's v3 API that the node serves.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// Our own packages, nested as their names say because generated code refers to itself by these
/// paths.
pub mod ninelives {
    pub mod command {
        pub mod v1 {
            tonic::include_proto!("ninelives.command.v1");
        }
    }
    pub mod control {
        pub mod v1 {
            tonic::include_proto!("ninelives.control.v1");
        }
    }
    pub mod lease {
        pub mod v1 {
            tonic::include_proto!("ninelives.lease.v1");
        }
    }
    pub mod peer {
        pub mod v1 {
            tonic::include_proto!("ninelives.peer.v1");
        }
    }
}

pub use ninelives::command::v1 as command;
pub use ninelives::control::v1 as control;
pub use ninelives::lease::v1 as lease;
pub use ninelives::peer::v1 as peer;
