//! `ninelives doctor`: what this machine lets a run inject.

use super::{beside_this_executable, subject};
use crate::doctor::{self, Ability, Examined, Programs};
use crate::exit::{Exit, Failure};
use crate::output::product;
use anyhow::Context;
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 all that was asked for can be injected, 2 something cannot, 70 the harness failed"
)]
pub struct DoctorArgs {
    /// Abilities to try; all of them if none is named.
    #[arg(value_name = "ABILITY")]
    pub abilities: Vec<Ability>,
    /// Print a JSON array with an object for each ability.
    #[arg(long)]
    pub json: bool,
}

/// Tries what runs need of this machine, and prints what is lacking, with the commands that would
/// change it.
pub async fn doctor(args: &DoctorArgs) -> Result<Exit, Failure> {
    let programs = Programs {
        node: beside_this_executable("node-under-test")?,
        sabotaged: beside_this_executable("node-under-test-sabotaged")?,
        etcd: subject::on_path("etcd"),
    };
    let asked = if args.abilities.is_empty() { Ability::value_variants() } else { &args.abilities };
    let examined = doctor::examine(asked, &programs, &std::env::temp_dir()).await?;
    product(&match args.json {
        true => serde_json::to_string_pretty(&examined).context("as JSON")? + "\n",
        false => table(&examined),
    })?;
    let all = examined.iter().all(|one| one.able);
    Ok(if all { Exit::Pass } else { Exit::Inconclusive })
}

fn table(examined: &[Examined]) -> String {
    let lines = examined.iter().map(|Examined { ability, able, found, remedies }| {
        let can = if *able { "yes" } else { "no " };
        let mut line = format!("{can}  {:<17} {found}\n", ability.name());
        if !able {
            line.push_str(&format!("     {:<17} needed by {}\n", "", ability.needed_by()));
        }
        remedies.iter().for_each(|remedy| line.push_str(&format!("     {:<17} do: {remedy}\n", "")));
        line
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_says_what_needs_it_and_what_to_do() {
        let able = Examined {
            ability: Ability::Loopback,
            able: true,
            found: "listens on 127.0.0.1".to_owned(),
            remedies: Vec::new(),
        };
        let lacking = Examined {
            ability: Ability::Etcd,
            able: false,
            found: "not on PATH".to_owned(),
            remedies: vec!["make setup".to_owned()],
        };
        let expected = "yes  loopback          listens on 127.0.0.1
no   etcd              not on PATH
                       needed by scenarios whose `[target]` is etcd
                       do: make setup
";
        assert_eq!(table(&[able, lacking]), expected);
    }
}
