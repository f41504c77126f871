//! Findings as values: the broken promise ([`What`]), one variant for each, with its member,
//! revision, key or raft index as fields.
//!
//! A variant has one class, its fields, and the sentence that it becomes. The sentence is for
//! people: code matches variants and fields, and so do the `[[known]]` tables of scenarios.
//!
//! | group | what is broken |
//! | --- | --- |
//! | [`Replicas`] | replicas differ at a fence, or from the model |
//! | [`Writes`] | an acknowledged write is not there, or something else is |
//! | [`Answers`] | an answer does not fit the state, or came from before what was acknowledged |
//! | [`Leases`] | a lease is where it must not be, or not where it must be, or ended at the wrong time |
//! | [`Watches`] | a watch left something out, repeated something, or could not be resumed |
//! | [`Restarts`] | a dead directory, or the recovery on it, is not what it must be |
//! | [`RaftLogs`] | a raft log, a vote, or what the logs replay to |
//! | [`Watermarks`] | a living member's own figures |
//! | [`Members`] | a member died, refused to start, or was late |
//! | [`Harness`] | the harness or its machine failed |
//! | [`Lack`] | the run proved too little |
//!
//! Written down, a variant is its kebab-case name and its fields:
//! `"what":"delivered-twice","fields":{"slot":2,…}`.

use crate::verdict::Class;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

/// Declares one group of findings as a table: class, variant, fields, sentence. Everything else
/// (the serialised form, the class, the list of all kinds, a sample of each) follows from the
/// table, so no variant can lack any of it.
macro_rules! findings {
    (
        $(#[$doc:meta])*
        $group:ident:
        $(
            $(#[$about:meta])*
            $class:ident $variant:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* $(,)? }
            $sentence:literal $(, $name:ident = $value:expr)* ;
        )*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "what", content = "fields", rename_all = "kebab-case")]
        pub enum $group {
            $(
                $(#[$about])*
                $variant { $($(#[$attribute])* $field: $type),* },
            )*
        }

        impl $group {
            pub(super) const KINDS: &'static [super::Kind] = &[
                $(super::Kind {
                    class: crate::verdict::Class::$class,
                    variant: stringify!($variant),
                    fields: &[$(stringify!($field)),*],
                    sample: || super::What::$group(Self::$variant {
                        $($field: <$type as super::parts::Sample>::sample()),*
                    }),
                    read: |value| serde_json::from_value::<Self>(value).map(super::What::$group),
                }),*
            ];

            pub fn class(&self) -> crate::verdict::Class {
                match self {
                    $(Self::$variant { .. } => crate::verdict::Class::$class,)*
                }
            }

            pub(super) fn variant(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => stringify!($variant),)*
                }
            }
        }

        impl std::fmt::Display for $group {
            #[allow(unused_variables, reason = "a sentence need not name every field")]
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $(Self::$variant { $($field),* } => write!(f, $sentence $(, $name = $value)*),)*
                }
            }
        }
    };
}

mod answers;
mod harness;
mod lack;
mod leases;
mod members;
pub mod parts;
mod raft_logs;
mod replicas;
mod restarts;
mod watches;
mod watermarks;
mod writes;

pub use answers::Answers;
pub use harness::Harness;
pub use lack::Lack;
pub use leases::Leases;
pub use members::Members;
pub use raft_logs::RaftLogs;
pub use replicas::Replicas;
pub use restarts::Restarts;
pub use watches::Watches;
pub use watermarks::Watermarks;
pub use writes::Writes;

/// A kind of finding, by its row in the table.
#[derive(Debug)]
pub struct Kind {
    pub class: Class,
    variant: &'static str,
    /// Names of its fields, in their order.
    pub fields: &'static [&'static str],
    sample: fn() -> What,
    read: fn(serde_json::Value) -> serde_json::Result<What>,
}

impl Kind {
    /// The kebab-case name.
    pub fn name(&self) -> String {
        kebab(self.variant)
    }

    /// Some finding of this kind.
    pub fn sample(&self) -> What {
        (self.sample)()
    }

    /// The value of `field` as findings of this kind write it down.
    ///
    /// # Errors
    /// `value` is not of the field's type.
    pub fn canonical(&self, field: &str, value: serde_json::Value) -> serde_json::Result<serde_json::Value> {
        let mut written = serde_json::to_value(self.sample())?;
        written["fields"][field] = value;
        let read = (self.read)(written)?;
        Ok(read.field(field))
    }
}

/// All kinds, by name.
static KINDS: LazyLock<BTreeMap<String, &'static Kind>> =
    LazyLock::new(|| What::GROUPS.iter().copied().flatten().map(|kind| (kind.name(), kind)).collect());

/// All kinds of findings, ascending by name.
pub fn kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.values().copied()
}

/// The kind with this kebab-case name.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.get(name).copied()
}

/// `DeliveredTwice` as `delivered-twice`.
fn kebab(variant: &str) -> String {
    let mut name = String::new();
    for letter in variant.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

macro_rules! groups {
    ($($group:ident),* $(,)?) => {
        /// The broken promise.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum What {
            $($group($group),)*
        }

        impl What {
            const GROUPS: &'static [&'static [Kind]] = &[$($group::KINDS),*];

            /// The class of the finding.
            pub fn class(&self) -> Class {
                match self {
                    $(What::$group(one) => one.class(),)*
                }
            }

            fn variant(&self) -> &'static str {
                match self {
                    $(What::$group(one) => one.variant(),)*
                }
            }
        }

        impl fmt::Display for What {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(What::$group(one) => one.fmt(f),)*
                }
            }
        }

        $(
            impl From<$group> for What {
                fn from(one: $group) -> Self {
                    What::$group(one)
                }
            }
        )*
    };
}

groups!(Replicas, Writes, Answers, Leases, Watches, Restarts, RaftLogs, Watermarks, Members, Harness, Lack,);

impl What {
    /// The kebab-case name of its kind.
    pub fn name(&self) -> String {
        kebab(self.variant())
    }

    /// A field as it is written down; null if there is no such field.
    pub fn field(&self, name: &str) -> serde_json::Value {
        // Fields are numbers, strings and lists of them: writing them down cannot fail.
        let written = serde_json::to_value(self).unwrap_or_default();
        written.get("fields").and_then(|fields| fields.get(name)).cloned().unwrap_or_default()
    }

    /// A sample of the first kind of `class`.
    pub fn of_class(class: Class) -> Self {
        What::GROUPS.iter().copied().flatten().find(|kind| kind.class == class).expect("each class has a kind").sample()
    }
}

impl<'de> Deserialize<'de> for What {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Serialize, Deserialize)]
        struct Written {
            what: String,
            fields: serde_json::Value,
        }
        let written = Written::deserialize(deserializer)?;
        let kind = kind(&written.what)
            .ok_or_else(|| serde::de::Error::custom(format!("expected a kind of finding, found {:?}", written.what)))?;
        let what = written.what.clone();
        let value = serde_json::to_value(written).map_err(serde::de::Error::custom)?;
        (kind.read)(value).map_err(|error| serde::de::Error::custom(format!("{what}: {error}")))
    }
}

#[cfg(test)]
mod tests;
