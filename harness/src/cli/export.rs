//! `ninelives export`: a run's history as text, or in a format that other checkers read.

use crate::exit::{Exit, Failure};
use crate::output::{delivered, say};
use crate::paths::Paths;
use clap::Args;
use ninelives_evidence::history::{self, Lines};
use ninelives_evidence::limits;
use ninelives_oracle::edn;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Report directory whose history to write as Jepsen's EDN, one map per line.
    #[arg(long, value_name = "REPORT", required_unless_present = "lines", conflicts_with = "lines")]
    pub edn: Option<PathBuf>,
    /// Report directory whose history to write as it is: JSON, one object per line.
    #[arg(long, value_name = "REPORT")]
    pub lines: Option<PathBuf>,
    /// Cluster whose history to write; each has its own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::CLUSTERS_MAX)))]
    pub cluster: u32,
    /// File to write, which must not exist yet [default: standard output].
    #[arg(long)]
    pub out: Option<PathBuf>,
}

/// Writes the history, and reports on standard error what was written.
pub fn export(args: &ExportArgs) -> Result<Exit, Failure> {
    let report = args.edn.as_ref().or(args.lines.as_ref()).expect("the parser requires one of them");
    let paths = Paths::new(report).of_cluster(args.cluster);
    let path = paths.history_jsonl();
    if let Some(why) = paths.lacking(std::slice::from_ref(&path)) {
        return Err(Failure::Usage(why));
    }
    let history = Lines::open(&path)
        .map_err(|error| Failure::Usage(format!("expected the history of a report, found: {error}")))?;
    let (to, place): (Box<dyn Write>, String) = match &args.out {
        None => (Box::new(std::io::stdout().lock()), "standard output".to_owned()),
        Some(out) => {
            let file = File::create_new(out)
                .map_err(|error| Failure::Usage(format!("cannot create {}: {error}", out.display())))?;
            (Box::new(file), out.display().to_string())
        }
    };
    let to = BufWriter::new(to);
    let exported = match args.edn {
        Some(_) => edn::export(history, to).map(|exported| {
            let (all, completed) = (exported.invoked, exported.completed);
            (format!("{all} operations, {completed} of them completed,"), exported.torn)
        }),
        None => lines(history, to).map(|(lines, torn)| (format!("{lines} lines"), torn)),
    };
    match exported {
        Ok((what, torn)) => {
            let torn = if torn { "; the last line of the history is cut off and was left out" } else { "" };
            say(&format!("{what} written to {place}{torn}\n"));
            Ok(Exit::Pass)
        }
        Err(edn::Error::Write(error)) if args.out.is_none() => Ok(delivered(Err(error)).map(|()| Exit::Pass)?),
        Err(edn::Error::Read(error @ (history::Error::Malformed { .. } | history::Error::Broken(_)))) => {
            Err(Failure::Usage(error.to_string()))
        }
        Err(error) => Err(Failure::Harness(anyhow::Error::new(error).context(format!("exporting {}", path.display())))),
    }
}

/// Writes the lines of `history`: how many, and whether the last one is cut off.
fn lines(mut history: Lines, mut to: impl Write) -> Result<(u64, bool), edn::Error> {
    let mut written = 0;
    while let Some(line) = history.read_text()? {
        to.write_all(line)?;
        to.write_all(b"\n")?;
        written += 1;
    }
    to.flush()?;
    Ok((written, history.torn()))
}
