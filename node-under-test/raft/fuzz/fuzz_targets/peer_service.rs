//! Any bytes as what other members say: a live member, its log in a temporary directory, is told
//! one thing after the other, answers each, lives, and starts again from its disk.
//!
//! A byte chooses the act, the next ones fill it in: messages whose form is right and whose
//! contents are not go deep, and bytes without a form are among the acts.

#![no_main]

#[path = "../../tests/support/hostile.rs"]
mod hostile;

use hostile::{Act, Append, At, Body, Number, Victim, Vote};
use libfuzzer_sys::fuzz_target;

/// Acts of one input: a member's start costs more than they do.
const ACTS_MAX: usize = 64;

/// The rest of the input; zeros once it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> Number {
        Number(self.byte())
    }

    fn vote(&mut self) -> Vote {
        (self.number(), self.number(), self.byte() % 8 != 0)
    }

    fn at(&mut self) -> At {
        (self.byte() % 4 != 0).then(|| (self.number(), self.number()))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes.to_vec()
    }

    fn body(&mut self) -> Body {
        match self.byte() % 4 {
            0 => Body::Blank,
            1 => Body::Command,
            _ => Body::Membership(self.bytes(), self.bytes()),
        }
    }

    fn append(&mut self) -> Append {
        Append {
            vote: self.vote(),
            before: self.at(),
            entries: (0..self.byte() % 6).map(|_| (self.number(), self.number(), self.body())).collect(),
            follow: self.byte() % 4 != 0,
            commit: self.at(),
        }
    }

    fn act(&mut self) -> Act {
        match self.byte() % 16 {
            0 => Act::Bytes { rpc: self.byte(), framed: self.byte() % 2 == 0, bytes: self.bytes() },
            1 => Act::Payload { rpc: self.byte(), bytes: self.bytes() },
            2 | 3 => Act::Greeting {
                rpc: self.byte(),
                to: self.number(),
                to_incarnation: self.number(),
                id: self.number(),
                incarnation: self.number(),
                cluster: self.number(),
            },
            4 | 5 => Act::Append(self.append()),
            6 | 7 => Act::Stream {
                led: self.byte() % 4 != 0,
                appends: (0..self.byte() % 6).map(|_| self.append()).collect(),
            },
            8 | 9 => Act::Vote {
                pre: self.byte() % 2 == 0,
                vote: self.vote(),
                last: self.at(),
                transfer: self.byte() % 2 == 0,
            },
            10 => Act::Transfer { vote: self.vote(), to: self.number(), last: self.at() },
            11 | 12 => Act::Snapshot {
                vote: self.vote(),
                at: self.at(),
                members: self.body(),
                wire_size: self.number(),
                chunks: (0..self.byte() % 4).map(|_| u16::from(self.byte())).collect(),
                headless: self.byte() % 8 == 0,
            },
            13 => Act::Greeting {
                rpc: 9,
                to: Number(1),
                to_incarnation: self.number(),
                id: Number(2),
                incarnation: self.number(),
                cluster: Number(0),
            },
            14 => match self.byte() % 4 {
                0 => Act::Command(u16::from(self.byte())),
                1 => Act::Change { kind: self.byte(), id: self.number() },
                2 => Act::Ask(self.bytes()),
                _ => Act::Lead,
            },
            _ => Act::Lead,
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let mut victim = Victim::start().await;
        let mut input = Input(input);
        for _ in 0..ACTS_MAX {
            if input.0.is_empty() {
                break;
            }
            let act = input.act();
            victim.suffer(&act).await;
        }
        victim.restart().await;
        victim.stop().await;
    });
});
