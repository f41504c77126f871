//! Addresses to connect to, where they differ from those in the membership.
//!
//! A relay between two members sees only what is dialled through it, and a membership cannot name
//! it: each member would have to be elsewhere for each of the others. So a member may be told, for
//! itself alone, to connect elsewhere. The detour begins at the connection and nowhere above: no
//! message, no log entry and no row ever holds it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The detours of this process; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dial {
    detours: BTreeMap<SocketAddr, SocketAddr>,
}

impl Dial {
    /// # Errors
    /// A sentence, when two detours begin at the same address.
    pub fn new(detours: impl IntoIterator<Item = (SocketAddr, SocketAddr)>) -> Result<Self, String> {
        let mut dial = Self::default();
        for (from, to) in detours {
            if let Some(other) = dial.detours.insert(from, to).filter(|other| *other != to) {
                return Err(format!("expected one detour for {from}, found one to {other} and one to {to}"));
            }
        }
        Ok(dial)
    }

    /// The address to connect to for whom a membership says to be at `named`. Detours are not
    /// chained.
    pub fn resolve<'a>(&self, named: &'a str) -> Cow<'a, str> {
        match named.parse().ok().and_then(|from: SocketAddr| self.detours.get(&from)) {
            Some(to) => to.to_string().into(),
            None => named.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn only_what_has_a_detour_is_dialled_elsewhere() {
        let dial = Dial::new([(at(1), at(2)), (at(2), at(3))]).unwrap();
        assert_eq!(dial.resolve("127.0.0.1:1"), "127.0.0.1:2", "and not on to 3");
        assert_eq!(dial.resolve("127.0.0.1:4"), "127.0.0.1:4");
        assert_eq!(dial.resolve("somewhere:1"), "somewhere:1");
        assert_eq!(Dial::default().resolve("127.0.0.1:1"), "127.0.0.1:1");
    }

    #[test]
    fn two_detours_for_one_address_are_refused() {
        let error = Dial::new([(at(1), at(2)), (at(1), at(3))]).unwrap_err();
        assert!(error.contains("one to 127.0.0.1:2 and one to 127.0.0.1:3"), "{error}");
        assert!(Dial::new([(at(1), at(2)), (at(1), at(2))]).is_ok());
    }
}
