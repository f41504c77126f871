//! Generates the wire formats from every `.proto` file of this directory, without a system
//! `protoc`.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo runs this in the package's directory. Not the path it was compiled at: a build
    // directory that several checkouts share may hold the script of another one, which may be gone.
    let dir = Path::new(".");
    let mut protos = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            protos.push(path);
        }
    }
    println!("cargo:rerun-if-changed=.");
    protos.sort();
    let descriptors = protox::compile(&protos, [dir])?;
    // Values and messages pass through the node without being copied; digests stay plain vectors.
    tonic_prost_build::configure()
        .bytes(".mvccpb")
        .bytes(".etcdserverpb")
        .bytes(".ninelives.peer")
        .codec_path("crate::codec::Codec")
        .compile_fds(descriptors)?;
    Ok(())
}
