use super::*;
use ninelives_golden::assert_golden;
use proptest::prelude::*;
use std::collections::BTreeSet;

const HISTORY: &str = r#"{"at_us":1000,"event":"invoke","op":"3.17","endpoint":0,"action":{"do":"txn","when":[{"key":"a/00001","mod_revision":0}],"then":[{"put":{"key":"a/00001","value":"3.17"}}]}}
{"at_us":1500,"event":"watch","slot":1,"from":2}
{"at_us":2000,"event":"done","op":"3.17","revision":2,"term":1,"reply":{"txn":{"succeeded":true}}}
{"at_us":2100,"event":"revision","revision":2,"slot":1,"changes":[["a/00001","3.17",2,1,0]]}
{"at_us":2500,"event":"invoke","op":"4.1","endpoint":1,"action":{"do":"txn","when":[{"key":"a/00001","mod_revision":2}],"then":[{"put":{"key":"a/00001","value":"3.17,4.1"}}]}}
{"at_us":2600,"event":"invoke","op":"3.18","endpoint":0,"action":{"do":"read","keys":{"from":"a/00001"},"revision":null,"serializable":false}}
{"at_us":3000,"event":"done","op":"3.18","revision":3,"term":1,"reply":{"read":[["a/00001","3.17,4.1",2,3,2,0]]}}
{"at_us":3100,"event":"unknown","op":"4.1","why":"no \"answer\""}
{"at_us":3200,"event":"invoke","op":"4.2","endpoint":2,"action":{"do":"put","key":"p/00001","value":"~x9~,4.2","lease":0}}
{"at_us":3300,"event":"refused","op":"4.2","why":"connection refused"}
{"at_us":3400,"event":"invoke","op":"3.19","endpoint":0,"action":{"do":"txn","when":[],"then":[{"put":{"key":"p/00001","value":"x,3.19"}},{"put":{"key":"p/00002","value":"x,3.19"}},{"delete":{"keys":{"from":"c/00003"}}}]}}
{"at_us":3500,"event":"done","op":"3.19","revision":4,"term":1,"reply":{"txn":{"succeeded":true}}}
{"at_us":3600,"event":"invoke","op":"3.20","endpoint":0,"action":{"do":"read","keys":{"from":"p/","to":"p0"},"revision":null,"serializable":false}}
{"at_us":3700,"event":"done","op":"3.20","revision":4,"term":1,"reply":{"read":[["p/00001","x,3.19",4,4,1,0],["p/00002","x,3.19",4,4,1,0]]}}
{"at_us":3800,"event":"invoke","op":"4.3","endpoint":2,"action":{"do":"delete","keys":{"from":"p/00001"}}}
{"at_us":3900,"event":"done","op":"4.3","revision":5,"term":1,"reply":{"deleted":1}}
{"at_us":4000,"event":"invoke","op":"4.4","endpoint":2,"action":{"do":"read","keys":{"from":"p/00001"},"revision":null,"serializable":false}}
{"at_us":4100,"event":"done","op":"4.4","revision":5,"term":1,"reply":{"read":[]}}
{"at_us":4200,"event":"invoke","op":"4.5","endpoint":2,"action":{"do":"txn","when":[{"key":"c/00001","mod_revision":9}],"then":[{"put":{"key":"c/00001","value":"2,4.5"}}]}}
{"at_us":4300,"event":"done","op":"4.5","revision":5,"term":1,"reply":{"txn":{"succeeded":false}}}
{"at_us":4400,"event":"invoke","op":"4.6","endpoint":2,"action":{"do":"revoke","lease":7}}
{"at_us":4500,"event":"inv"#;

fn exported(history: &str) -> (String, Exported) {
    let mut text = Vec::new();
    let exported = export(Lines::of("history.jsonl".to_owned(), history.as_bytes()), &mut text).unwrap();
    (String::from_utf8(text).unwrap(), exported)
}

#[test]
fn golden_history() {
    let (text, exported) = exported(HISTORY);
    assert_golden("history.edn", &text);
    assert_eq!(exported, Exported { invoked: 10, completed: 9, torn: true });
}

#[test]
fn a_line_that_is_none_is_named() {
    let error = |text: &'static str| {
        let lines = Lines::of("history.jsonl".to_owned(), text.as_bytes());
        export(lines, io::sink()).unwrap_err().to_string()
    };
    let nothing = error("{\"at_us\":1,\"event\":\"mark\",\"cycle\":1}\nno\n");
    assert!(nothing.starts_with("history.jsonl, line 2: ") && nothing.contains("\"no\""), "{nothing}");
    let strange = error("{\"at_us\":1,\"event\":\"mork\",\"cycle\":1}\n");
    assert!(strange.starts_with("history.jsonl, line 1: "), "{strange}");
}

#[test]
fn strings_are_edn() {
    assert_eq!(quoted("a\"b\\c\nd\u{1}"), r#""a\"b\\c\nd ""#);
}

/// The value behind `:name `, up to the next comma or brace.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let from = line.find(&format!(":{name} ")).unwrap() + name.len() + 2;
    line[from..].split([',', '}']).next().unwrap()
}

proptest! {
    /// Whatever a history holds: indices ascend, a process has one operation at a time, and none
    /// has two completions.
    #[test]
    fn every_operation_of_a_process_is_invoked_then_completed(
        events in prop::collection::vec((0u32..4, 0u64..6, 0u8..5), 0..80),
    ) {
        let mut history = String::new();
        for (at, (client, seq, kind)) in events.iter().enumerate() {
            let rest = match kind {
                0 | 1 => r#""event":"invoke","endpoint":0,"action":{"do":"revoke","lease":7}"#,
                2 => r#""event":"done","revision":2,"term":1,"reply":"revoked""#,
                3 => r#""event":"refused","why":"no""#,
                _ => r#""event":"unknown","why":"no""#,
            };
            history.push_str(&format!("{{\"at_us\":{at},\"op\":\"{client}.{seq}\",{rest}}}\n"));
        }
        let (text, exported) = exported(&history);
        let (mut busy, mut ended) = (BTreeSet::new(), BTreeSet::new());
        let mut invoked = 0;
        for (index, line) in text.lines().enumerate() {
            prop_assert_eq!(field(line, "index"), index.to_string());
            let process = field(line, "process").to_owned();
            prop_assert!(!ended.contains(&process), "a process goes on after its :info: {}", line);
            if field(line, "type") == ":invoke" {
                invoked += 1;
                prop_assert!(busy.insert(process));
            } else {
                prop_assert!(busy.remove(&process), "a completion without an invocation: {}", line);
                if field(line, "type") == ":info" {
                    ended.insert(process);
                }
            }
        }
        prop_assert_eq!(exported.invoked, invoked);
        prop_assert_eq!(exported.completed + busy.len() as u64, invoked);
    }
}
