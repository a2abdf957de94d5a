use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> Pattern {
    text.parse().expect(text)
}

fn fault(text: &str) -> PatternFault {
    text.parse::<Pattern>().expect_err(text).fault
}

/// The same by trying everything.
fn naive(pattern: &[&str], name: &[&str]) -> bool {
    match pattern {
        [] => name.is_empty(),
        ["**"] => !name.is_empty(),
        ["**", rest @ ..] => (0..=name.len()).any(|taken| naive(rest, &name[taken..])),
        [first, rest @ ..] => match name {
            [part, others @ ..] => naive_segment(first.as_bytes(), part.as_bytes()) && naive(rest, others),
            [] => false,
        },
    }
}

fn naive_segment(pattern: &[u8], part: &[u8]) -> bool {
    match pattern {
        [] => part.is_empty(),
        [b'*', rest @ ..] => (0..=part.len()).any(|taken| naive_segment(rest, &part[taken..])),
        [first, rest @ ..] => part.first() == Some(first) && naive_segment(rest, &part[1..]),
    }
}

fn globs() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab*]{1,4}|\\*\\*", 1..6)
        .prop_map(|segments| segments.join("/"))
        .prop_filter("`**` is a whole segment", |text| text.parse::<Pattern>().is_ok())
}

fn names() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]{1,4}", 1..7).prop_map(|segments| segments.join("/"))
}

proptest! {
    #[test]
    fn a_glob_matches_what_trying_everything_matches(text in globs(), name in names()) {
        let segments: Vec<_> = text.split('/').collect();
        let parts: Vec<_> = name.split('/').collect();
        prop_assert_eq!(pattern(&text).matches(&name), naive(&segments, &parts));
    }

    #[test]
    fn whatever_is_meant_is_listed(
        texts in prop::collection::vec(prop_oneof![globs(), names()], 1..6),
        name in names(),
    ) {
        let patterns = Patterns::parse(texts.iter().map(String::as_str)).expect("all are patterns");
        let is_meant = texts.iter().any(|text| pattern(text).matches(&name));
        prop_assert_eq!(patterns.matches(&name), is_meant);
        if is_meant {
            let is_listed = patterns.prefixes().iter().any(|prefix| name.starts_with(prefix.as_str()));
            prop_assert!(is_listed != patterns.unlisted().contains(&name), "listed once, in one of the two ways");
            prop_assert!(name.starts_with(&patterns.common_prefix()));
        }
    }

    #[test]
    fn no_text_makes_a_pattern_panic(text in ".{0,12}", name in ".{0,12}") {
        if let Ok(pattern) = text.parse::<Pattern>() {
            let is_prefixed = !pattern.matches(&name) || name.starts_with(&pattern.prefix());
            prop_assert!(is_prefixed);
        }
    }
}

#[test]
fn an_asterisk_stays_within_its_segment_and_two_do_not() {
    assert!(pattern("jobs/*").matches("jobs/a"));
    assert!(!pattern("jobs/*").matches("jobs/a/b"));
    assert!(!pattern("jobs/*").matches("jobs"));
    assert!(pattern("runs/**").matches("runs/a/b/c"));
    assert!(!pattern("runs/**").matches("runs"), "there is nothing below it");
    assert!(pattern("runs/**/log").matches("runs/log") && pattern("runs/**/log").matches("runs/a/b/log"));
    assert!(pattern("**").matches("a") && pattern("**").matches("a/b"));
    assert!(pattern("job-*-é").matches("job-7-é") && !pattern("job-*-é").matches("job-é"));
}

#[test]
fn an_exact_name_means_itself_alone() {
    let exact = pattern("jobs/a");
    assert!(exact.matches("jobs/a") && !exact.matches("jobs/ab") && !exact.matches("jobs/a/b"));
    assert_eq!(exact.exact().as_deref(), Some("jobs/a"));
    assert_eq!(pattern(r"what\*\{\\").exact().as_deref(), Some(r"what*{\"));
    assert_eq!(pattern("jobs/*").exact(), None);
}

#[test]
fn braces_capture_segments_by_name() {
    let route = pattern("runs/{run_id}/steps/{step}");
    assert_eq!(
        route.captures("runs/7/steps/b"),
        Some(vec![("run_id", "7"), ("step", "b")])
    );
    assert_eq!(route.captures("runs/7/steps"), None);
    assert_eq!(route.capture_names().collect::<Vec<_>>(), ["run_id", "step"]);
    assert_eq!(pattern("**/{last}").captures("a/b/c"), Some(vec![("last", "c")]));
}

#[test]
fn what_is_no_pattern_is_told_why() {
    assert_eq!(fault(""), PatternFault::Missing);
    for text in ["/a", "a/", "a//b"] {
        assert_eq!(fault(text), PatternFault::EmptySegment, "{text}");
    }
    assert_eq!(fault("a/../b"), PatternFault::DotSegment);
    assert_eq!(fault("__ds/streams"), PatternFault::Reserved);
    assert_eq!(fault("a\n"), PatternFault::ControlCharacter { code: 10 });
    assert_eq!(fault("a**"), PatternFault::AsterisksInSegment);
    for text in ["run-{id}", "{}", "{a b}", "a}"] {
        assert_eq!(fault(text), PatternFault::Brace, "{text}");
    }
    assert_eq!(fault("{a}/{a}"), PatternFault::NameTwice("a".to_owned()));
    assert_eq!(fault("a\\"), PatternFault::DanglingEscape);
    assert_eq!(
        Patterns::parse([]).expect_err("there is none").fault,
        PatternFault::Missing
    );
    assert_eq!(
        "a\n".parse::<Pattern>().expect_err("no pattern").to_string(),
        "\"a\\n\" selects no streams: names have no control characters; take out the character U+000A"
    );
}

#[test]
fn listings_cover_the_globs_once_and_exact_names_are_looked_up() {
    let patterns = Patterns::parse(["runs/**", "runs/a*", "jobs/*", "jobs/x", "orders"]).expect("patterns");
    assert_eq!(patterns.prefixes(), ["jobs/", "runs/"]);
    assert_eq!(patterns.unlisted(), ["orders"]);
    assert_eq!(patterns.common_prefix(), "");
    let patterns = Patterns::parse(["runs/é", "runs/è/*"]).expect("patterns");
    assert_eq!(patterns.common_prefix(), "runs/", "not within a character");
}

#[test]
fn patterns_are_written_alike_whichever_order_they_come_in() {
    let written = |texts: &[&str]| Patterns::parse(texts.iter().copied()).unwrap().to_string();
    assert_eq!(written(&["runs/**", "jobs/a", "b", "jobs/a"]), "b,jobs/a,runs/**");
    assert_eq!(written(&["b", "runs/**", "jobs/a"]), "b,jobs/a,runs/**");
}

#[test]
fn a_name_is_told_by_its_captures_if_nothing_else_of_it_varies() {
    let is_told = |text: &str, names: &[&str]| text.parse::<Pattern>().unwrap().is_told_by(names);
    assert!(is_told("runs/{run}", &["run"]));
    assert!(is_told("runs/{run}/{step}", &["step", "run"]));
    assert!(is_told("runs/7", &[]));
    assert!(!is_told("runs/{run}/{step}", &["run"]));
    assert!(!is_told("runs/{run}/*", &["run"]));
    assert!(!is_told("runs/{run}/**", &["run"]));
    assert!(!is_told("run-*/{run}", &["run"]));
}
