//! `repro.sh`: paste its path, and the same schedule runs again, from any directory.
//!
//! It replays the plan stored beside it, with the binaries that the report names unless the
//! environment names others, and first prints both digests of each: of the binary that ran then,
//! and of the one that is about to run.

use super::{partial, verdict_sentence};
use crate::shell::quote;
use ninelives_evidence::record::{BinaryId, RunSummary};

/// The text of `repro.sh`.
pub fn render(run: &RunSummary) -> String {
    let mut lines = vec![
        "#!/usr/bin/env bash".to_owned(),
        format!("# {}: {}, seed {}.", run.verdict, comment(&run.plan.scenario), run.plan.seed),
        format!("# {}.", verdict_sentence(run)),
    ];
    lines.extend(partial(run).map(|why| format!("# {why}.")));
    lines.extend([
        format!("# The same from the scenario: {}", comment(&run.repro)),
        format!(
            "# Another binary: NINELIVES=… NODE_UNDER_TEST=… {}./repro.sh; further arguments go to `ninelives replay`.",
            if run.provenance.inspector.is_some() { "INSPECTOR=… " } else { "" }
        ),
        "set -euo pipefail".to_owned(),
        r#"report=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"#.to_owned(),
        format!("harness=${{NINELIVES:-{}}}", quote(&run.provenance.harness.path)),
        format!("node=${{NODE_UNDER_TEST:-{}}}", quote(&run.provenance.node.path)),
    ]);
    lines.extend(run.provenance.inspector.iter().map(|is| format!("inspector=${{INSPECTOR:-{}}}", quote(&is.path))));
    lines.extend([
        DIGEST.to_owned(),
        digest_call("harness", &run.provenance.harness),
        digest_call("node", &run.provenance.node),
    ]);
    lines.extend(run.provenance.inspector.iter().map(|is| digest_call("inspector", is)));
    let inspector = if run.provenance.inspector.is_some() { r#" --inspector "$inspector""# } else { "" };
    lines.extend([
        format!(
            "printf 'scenario, then: %s\\nplan, then:     %s\\n' {} {}",
            quote(&run.plan.scenario_digest),
            quote(&run.plan.digest)
        ),
        format!(r#"exec "$harness" replay "$report" --node "$node"{inspector} "$@""#),
    ]);
    lines.join("\n") + "\n"
}

const DIGEST: &str = r#"digest() { # name, file, digest of the report
  if [ ! -x "$2" ]; then
    echo "$1: $2 is not there or not executable; build it, or name another one (see the top of this script)" >&2
    exit 64
  fi
  local now
  now=$(sha256sum -- "$2" | cut -d' ' -f1)
  printf '%s, then: %s\n%s, now:  %s\n' "$1" "$3" "$1" "$now"
  if [ "$now" != "$3" ]; then
    echo "$1: not the binary of the report: the failure may not come back" >&2
  fi
}"#;

fn digest_call(name: &str, binary: &BinaryId) -> String {
    format!("digest {name} \"${name}\" {}", quote(&binary.sha256))
}

/// `text` as the rest of a comment: a line break would end it.
fn comment(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use std::process::Command;

    #[test]
    fn golden() {
        ninelives_golden::assert_golden("repro.sh", &render(&sample::failing()));
    }

    /// The script is run with binaries that only print: words with quotes and blanks must arrive
    /// whole.
    #[test]
    fn it_replays_its_own_directory_and_says_both_digests() {
        let dir = tempfile::Builder::new().prefix("it's a report ").tempdir().unwrap();
        let script = dir.path().join("repro.sh");
        let mut run = sample::failing();
        run.plan.scenario = "two\nlines; exit 9".to_owned();
        run.provenance.harness.path = "/bin/echo".to_owned();
        run.provenance.node.path = "/bin/true".to_owned();
        run.provenance.inspector.as_mut().unwrap().path = "/bin/false".to_owned();
        std::fs::write(&script, render(&run)).unwrap();
        let output = Command::new("bash").arg(&script).args(["--times", "20"]).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
        let last = out.lines().last().unwrap();
        assert_eq!(last, format!("replay {} --node /bin/true --inspector /bin/false --times 20", dir.path().display()));
        assert!(out.contains(&format!("harness, then: {}", "c".repeat(64))), "{out}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("not the binary of the report"));
    }

    #[test]
    fn a_missing_binary_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("repro.sh");
        std::fs::write(&script, render(&sample::failing())).unwrap();
        let output = Command::new("bash").arg(&script).output().unwrap();
        assert_eq!(output.status.code(), Some(64));
        assert!(String::from_utf8_lossy(&output.stderr).contains("/opt/ninelives is not there"));
    }
}
