//! `migrate`: another engine for a stopped member. The steps, and what a kill leaves, are in
//! `node_backend::migrate`.

use super::hold;
use crate::cli::Migrate;
use crate::output;
use node_backend::migrate;
use node_base::failpoint;
use node_base::say;
use serde::Serialize;
use std::process::ExitCode;

#[derive(Serialize)]
struct Record {
    event: &'static str,
    from: &'static str,
    to: &'static str,
    /// The consistent index; `null`: nothing was ever applied.
    index: Option<u64>,
    /// Rows copied; `null`: an earlier attempt had copied them, or there was nothing to do.
    rows: Option<u64>,
}

/// # Errors
/// The directory is not a stopped member's, or an engine failed; the same command continues from
/// there.
pub fn migrate(options: &Migrate) -> anyhow::Result<ExitCode> {
    #[cfg(feature = "sabotage")]
    if let Some(bug) = &options.sabotage {
        node_base::sabotage::plant(bug).map_err(anyhow::Error::msg)?;
    }
    for (window, hit) in &options.arm {
        failpoint::arm(*window, *hit);
    }
    let (dir, _lock) = hold(&options.at.data_dir)?;
    let to = options.to.kind();
    let record = match migrate::migrate(&dir, to)? {
        Some(done) => Record {
            event: "migrated",
            from: done.from.name(),
            to: done.to.name(),
            index: done.index.map(|id| id.index),
            rows: done.rows,
        },
        None => {
            say!("{}: is {to} already", dir.root().display());
            Record {
                event: "migrated",
                from: to.name(),
                to: to.name(),
                index: to.image_index(&dir.db())?.map(|id| id.index),
                rows: None,
            }
        }
    };
    output::line(serde_json::to_string(&record)?)?;
    Ok(ExitCode::SUCCESS)
}
