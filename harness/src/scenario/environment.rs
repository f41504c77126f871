//! The `[environment]` table: variables that members have beyond those that every child gets.
//!
//! ```toml
//! [environment]
//! pass = ["GODEBUG"]               # of the caller's environment; its value is written to the report
//! set = { GOMAXPROCS = "1" }       # whatever the caller has
//! ```

use super::Refusal;
use super::raw::Check;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

/// The variables of members, as a scenario gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentSpec {
    /// Passed on as the caller has them.
    pub pass: Vec<String>,
    pub set: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawEnvironment {
    pass: Vec<Spanned<String>>,
    set: BTreeMap<Spanned<String>, Spanned<String>>,
}

impl Check<'_> {
    pub(super) fn environment(&self, raw: &RawEnvironment) -> Result<EnvironmentSpec, Refusal> {
        let mut spec = EnvironmentSpec::default();
        for (name, value) in &raw.set {
            self.is_variable("environment.set", name)?;
            if value.get_ref().contains('\0') {
                return Err(self.refuse(value, "`environment.set`: expected a value without NUL, found one".to_owned()));
            }
            spec.set.insert(name.get_ref().clone(), value.get_ref().clone());
        }
        for name in &raw.pass {
            self.is_variable("environment.pass", name)?;
            if spec.set.contains_key(name.get_ref()) || spec.pass.contains(name.get_ref()) {
                let message = format!(
                    "`environment.pass`: expected each variable once, in `pass` or in `set`, found {:?} again",
                    name.get_ref()
                );
                return Err(self.refuse(name, message));
            }
            spec.pass.push(name.get_ref().clone());
        }
        Ok(spec)
    }

    fn is_variable(&self, field: &str, name: &Spanned<String>) -> Result<(), Refusal> {
        let text = name.get_ref();
        let letters = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if letters && text.chars().next().is_some_and(|first| !first.is_ascii_digit()) {
            return Ok(());
        }
        Err(self.refuse(name, format!("`{field}`: expected the name of a variable, like GODEBUG, found {text:?}")))
    }
}
