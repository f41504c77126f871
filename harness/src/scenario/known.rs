//! The `[[known]]` tables: signatures of known findings, which are counted and shown without ending
//! a run.
//!
//! ```toml
//! [[known]]
//! name = "etcd#13766"              # how reports call it
//! class = "state-hash"
//! what = "replicas-disagree"       # optional: a kind of that class
//! fields = { part = "kv-section" } # optional: these fields of the kind have these values
//! member = 2                       # optional: it is about this member
//! because = "https://github.com/etcd-io/etcd/issues/13766, fixed in 3.5.3"
//! ```
//!
//! A finding counts for the first table that it matches.

use super::Refusal;
use super::raw::Check;
use ninelives_evidence::signature::{Signature, may_be_known};
use ninelives_evidence::verdict::Class;
use ninelives_evidence::verdict::findings::{self, Kind};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKnown {
    name: Spanned<String>,
    class: Spanned<Class>,
    what: Option<Spanned<String>>,
    #[serde(default)]
    fields: BTreeMap<String, Spanned<toml::Value>>,
    /// Words of the sentence: the older form, which `what` and `fields` have replaced.
    contains: Option<Spanned<toml::Value>>,
    member: Option<Spanned<u64>>,
    because: Spanned<String>,
}

/// The names of all kinds of `class`.
fn kinds(class: Class) -> String {
    findings::kinds().filter(|kind| kind.class == class).map(Kind::name).collect::<Vec<_>>().join(", ")
}

impl Check<'_> {
    /// The signatures, in the order of the file.
    pub(super) fn known(&self, raw: &[RawKnown]) -> Result<Vec<Signature>, Refusal> {
        let mut signatures: Vec<Signature> = Vec::new();
        for one in raw {
            let signature = self.signature(one)?;
            if signatures.iter().any(|before| before.name == signature.name) {
                let message =
                    format!("`known.name`: expected a name for each `[[known]]`, found {:?} twice", signature.name);
                return Err(self.refuse(&one.name, message).hint("reports tell them apart by their names"));
            }
            signatures.push(signature);
        }
        Ok(signatures)
    }

    fn signature(&self, raw: &RawKnown) -> Result<Signature, Refusal> {
        let class = *raw.class.get_ref();
        if !may_be_known(class) {
            let message = format!(
                "`known.class`: expected a class of findings about the system under test, found {class}, which says nothing about it"
            );
            return Err(self.refuse(&raw.class, message));
        }
        if let Some(member) = raw.member.as_ref().filter(|member| *member.get_ref() == 0) {
            return Err(
                self.refuse(member, "`known.member`: expected a member's id, which begin at 1, found 0".to_owned())
            );
        }
        if let Some(words) = &raw.contains {
            let message = "`known.contains`: findings are matched by their kind and its fields, and not by their words";
            let hint = format!(
                "write `what = \"…\"`, with `fields = {{ … }}` if that is too wide; the kinds of class {class} are {}",
                kinds(class)
            );
            return Err(self.refuse(words, message.to_owned()).hint(hint));
        }
        let kind = raw.what.as_ref().map(|what| self.kind(class, what)).transpose()?;
        Ok(Signature {
            name: self.words("known.name", &raw.name, "reports could not name it")?,
            class,
            what: kind.map(Kind::name),
            fields: self.fields(kind, &raw.fields)?,
            member: raw.member.as_ref().map(|member| *member.get_ref()),
            because: self.words("known.because", &raw.because, "readers could not tell whether it is stale")?,
        })
    }

    /// The kind of findings of `class` that `what` names.
    fn kind(&self, class: Class, what: &Spanned<String>) -> Result<&'static Kind, Refusal> {
        let found = what.get_ref();
        match findings::kind(found) {
            Some(kind) if kind.class == class => Ok(kind),
            Some(kind) => {
                let message = format!(
                    "`known.what`: expected a kind of class {class}, found {found:?}, which is of class {}",
                    kind.class
                );
                Err(self.refuse(what, message).hint(format!("the kinds of class {class} are {}", kinds(class))))
            }
            None => {
                let message =
                    format!("`known.what`: expected a kind of class {class}, found {found:?}, which does not exist");
                Err(self.refuse(what, message).hint(format!("the kinds of class {class} are {}", kinds(class))))
            }
        }
    }

    /// The values that fields of `kind` must have, as findings write them down.
    fn fields(
        &self,
        kind: Option<&Kind>,
        raw: &BTreeMap<String, Spanned<toml::Value>>,
    ) -> Result<BTreeMap<String, serde_json::Value>, Refusal> {
        let checked = |(field, value): (&String, &Spanned<toml::Value>)| {
            let Some(kind) = kind else {
                let message = format!("`known.fields.{field}` is given, but `known.what`, its kind, is missing");
                return Err(self.refuse(value, message));
            };
            if !kind.fields.contains(&field.as_str()) {
                let message = format!("`known.fields`: expected fields of {}, found `{field}`", kind.name());
                let hint = match kind.fields {
                    [] => "this kind has no fields".to_owned(),
                    fields => format!("its fields are {}", fields.join(", ")),
                };
                return Err(self.refuse(value, message).hint(hint));
            }
            let canonical = serde_json::to_value(value.get_ref()).and_then(|value| kind.canonical(field, value));
            let canonical = canonical.map_err(|error| {
                self.refuse(
                    value,
                    format!("`known.fields.{field}`: no value of that field of {}: {error}", kind.name()),
                )
            })?;
            Ok((field.clone(), canonical))
        };
        raw.iter().map(checked).collect()
    }

    fn words(&self, field: &str, text: &Spanned<String>, or_else: &str) -> Result<String, Refusal> {
        if text.get_ref().trim().is_empty() {
            return Err(self.refuse(text, format!("`{field}`: expected some words, found none: {or_else}")));
        }
        Ok(text.get_ref().clone())
    }
}
