use std::collections::{BTreeMap, BTreeSet};

use staccato_protocols::Code;

use crate::model::{ProblemCode, distribution::StopCode};

/// The sections of `ERRORS.md`, by the code in their heading.
fn sections() -> BTreeMap<&'static str, String> {
    let page = include_str!("../../../ERRORS.md");
    let mut sections = BTreeMap::new();
    for section in page.split("\n### `").skip(1) {
        let (code, rest) = section.split_once('`').unwrap();
        let text = rest.split("\n## ").next().unwrap().to_owned();
        assert!(sections.insert(code, text).is_none(), "{code} has two sections");
    }
    sections
}

#[test]
fn every_code_has_its_section_and_every_section_its_code() {
    let codes = ProblemCode::OWN.map(ProblemCode::as_str).into_iter().chain(Code::ALL.map(Code::as_str));
    let codes = codes.chain(StopCode::ALL.map(StopCode::as_str));
    let codes: BTreeSet<&str> = codes.collect();
    let documented: BTreeSet<&str> = sections().into_keys().collect();
    let missing: Vec<_> = codes.difference(&documented).collect();
    let unknown: Vec<_> = documented.difference(&codes).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "ERRORS.md lacks {missing:?} and invents {unknown:?}");
}

#[test]
fn every_section_says_what_it_means_what_to_do_and_whether_it_is_retried() {
    for (code, text) in sections() {
        for part in ["Meaning", "What to do", "Retried"] {
            assert!(text.contains(&format!("\n- *{part}*: ")), "{code} does not say: {part}");
        }
    }
}

#[test]
fn the_statuses_of_the_page_are_those_of_the_code() {
    let sections = sections();
    for code in ProblemCode::OWN {
        let line = format!("\n- *Status*: {}\n", code.status());
        assert!(sections[code.as_str()].contains(&line), "{code} has status {}", code.status());
    }
    for code in Code::ALL {
        let status = ProblemCode::Protocol(code).status();
        assert_eq!(status, if code == Code::Internal { 500 } else { 400 }, "{code}");
    }
}
