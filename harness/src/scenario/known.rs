//! The `[[known]]` tables: signatures of findings that are known, and that are counted and shown without ending a run.
//!
//! ```toml
//! [[known]]
//! name = "etcd#13766"              # how reports call it
//! class = "state-hash"
//! contains = ["kv section"]        # optional: all of these are in the finding's sentence
//! member = 2                       # optional: it is about this member
//! because = "https://github.com/etcd-io/etcd/issues/13766, fixed in 3.5.3"
//! ```
//!
//! A finding counts for the first table that it matches.

use super::Refusal;
use super::raw::Check;
use crate::known::{Signature, may_be_known};
use crate::verdict::Class;
use serde::Deserialize;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKnown {
    name: Spanned<String>,
    class: Spanned<Class>,
    #[serde(default)]
    contains: Vec<Spanned<String>>,
    member: Option<Spanned<u64>>,
    because: Spanned<String>,
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
        let contains =
            raw.contains.iter().map(|text| self.words("known.contains", text, "it would match every sentence"));
        Ok(Signature {
            name: self.words("known.name", &raw.name, "reports could not name it")?,
            class,
            contains: contains.collect::<Result<_, _>>()?,
            member: raw.member.as_ref().map(|member| *member.get_ref()),
            because: self.words("known.because", &raw.because, "nobody could tell whether it is stale")?,
        })
    }

    fn words(&self, field: &str, text: &Spanned<String>, or_else: &str) -> Result<String, Refusal> {
        if text.get_ref().trim().is_empty() {
            return Err(self.refuse(text, format!("`{field}`: expected some words, found none: {or_else}")));
        }
        Ok(text.get_ref().clone())
    }
}
