//! `RateLimit` and `RateLimit-Policy`: draft-ietf-httpapi-ratelimit-headers-10.

use super::{FINE, Pair};
use crate::support::{Message, payment};

/// A rate and a concurrency, both enforced, and a rate that only observes.
const LIMITS: &str = r#"
[[limits]]
name = "hourly"
requests = 2
period = "1h"
[[limits]]
name = "at-once"
concurrency = 5
[[limits]]
name = "seen"
requests = 1
period = "1h"
mode = "observe"
"#;

fn limited() -> Pair {
    Pair::with(FINE, |builder| builder.tables(LIMITS))
}

/// One member of a list of Structured Field Strings: its text, and its parameters.
type Member = (String, Vec<(String, String)>);

/// Reads a field as a list of Strings with parameters; strict, as nobody else is asked.
fn members(answer: &Message, field: &str) -> Vec<Member> {
    let list = answer.field(field).split(", ");
    list.map(|member| {
        let mut parts = member.split(';');
        let name = parts.next().and_then(|name| name.strip_prefix('"'));
        let name = name.and_then(|name| name.strip_suffix('"'));
        let parameters = parts.map(|part| {
            let (key, value) = part.split_once('=').expect("key and value");
            (key.to_owned(), value.to_owned())
        });
        (name.expect("a String").to_owned(), parameters.collect())
    })
    .collect()
}

fn parameter<'m>((_, parameters): &'m Member, key: &str) -> Option<&'m str> {
    let found = parameters.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value.as_str())
}

fn number(member: &Member, key: &str) -> Option<u64> {
    parameter(member, key).map(|value| value.parse().expect("an Integer of no sign"))
}

/// ratelimit-headers draft 10
///
/// MUST: write RateLimit-Policy as a non-empty list of Strings, each with a quota `q` as an Integer; `w` is
/// in whole seconds, `qu` one of the registered units.
///
/// Here: each enforced policy by its name, a rate with `q` and `w`, a concurrency with `q` and
/// `qu="concurrent-requests"`; observed ones are not told.
#[test]
fn ratelimit_headers_draft_10_a_policy_has_its_quota() {
    let policies = members(&limited().exchange(payment("a")), "ratelimit-policy");
    let names: Vec<_> = policies.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["hourly", "at-once"]);
    assert_eq!(number(&policies[0], "q"), Some(2));
    assert_eq!(number(&policies[0], "w"), Some(3_600));
    assert_eq!(parameter(&policies[0], "qu"), None, "requests by default");
    assert_eq!(number(&policies[1], "q"), Some(5));
    assert_eq!(parameter(&policies[1], "w"), None);
    assert_eq!(
        parameter(&policies[1], "qu"),
        Some("\"concurrent-requests\"")
    );
}

/// ratelimit-headers draft 10
///
/// MUST: write RateLimit as a list of Strings, each with what is left `r` as an Integer that is not negative;
/// `t` is in seconds.
///
/// Here: on every reply of a request that the limits were asked for, MODEN's answers and denials alike.
#[test]
fn ratelimit_headers_draft_10_what_is_left_is_told() {
    let pair = limited();
    for left in [1, 0, 0] {
        let answer = pair.exchange(payment("a"));
        let hourly = members(&answer, "ratelimit").remove(0);
        assert_eq!(hourly.0, "hourly");
        assert_eq!(number(&hourly, "r"), Some(left));
        assert!((1..=3_600).contains(&number(&hourly, "t").expect("a time")));
    }
}

/// ratelimit-headers draft 10
///
/// MUST NOT: send either field as a trailer.
///
/// Here: both stand in the head, of a streamed answer, too; there are no trailers.
#[test]
fn ratelimit_headers_draft_10_both_stand_in_the_head() {
    let content = "x".repeat(100_000);
    let pair = Pair::with(
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{content}\r\n0\r\n\
             RateLimit: \"hourly\";r=9\r\n\r\n",
            content.len()
        ),
        |builder| builder.tables(LIMITS),
    );
    let mut client = pair.connect();
    let answer = client.exchange(payment("a"));
    assert!(answer.is_chunked && answer.all("trailer").is_empty());
    assert_eq!(number(&members(&answer, "ratelimit")[0], "r"), Some(1));
    assert_eq!(members(&answer, "ratelimit-policy").len(), 2);
    assert_eq!(
        client.exchange(payment("b")).status(),
        200,
        "nothing was left over"
    );
}

/// ratelimit-headers draft 10
///
/// SHOULD: not let Retry-After lie before the time `t` of what was exceeded.
///
/// Here: both are rounded up from the same moment.
#[test]
fn ratelimit_headers_draft_10_retry_after_does_not_lie_before_t() {
    let pair = limited();
    for _ in 0..2 {
        assert_eq!(pair.exchange(payment("a")).status(), 200);
    }
    let denial = pair.exchange(payment("a"));
    assert_eq!(denial.status(), 429);
    let wait: u64 = denial.field("retry-after").parse().expect("seconds");
    let hourly = members(&denial, "ratelimit").remove(0);
    assert!(wait >= number(&hourly, "t").expect("a time"), "{denial:?}");
}

/// ratelimit-headers draft 10
///
/// MUST NOT: let a partition key tell who somebody is.
///
/// Here: no `pk` is sent, also where a policy counts each address by itself.
#[test]
fn ratelimit_headers_draft_10_no_partition_key_is_told() {
    let limit = "[[limits]]\nname = \"each\"\nper = [\"client_ip\"]\nrequests = 1\nperiod = \"1h\"";
    let pair = Pair::with(FINE, |builder| builder.tables(limit));
    for _ in 0..2 {
        let answer = pair.exchange(payment("a"));
        for field in ["ratelimit", "ratelimit-policy"] {
            assert!(
                members(&answer, field)
                    .iter()
                    .all(|member| parameter(member, "pk").is_none())
            );
            assert!(!answer.field(field).contains("127.0.0.1"));
        }
    }
}

/// ratelimit-headers draft 10
///
/// SHOULD NOT: remove or loosen the fields of the server behind.
///
/// Here: MODEN's fields of these names are removed, so that each name in a reply has one meaning, with or
/// without limits of our own; a 429 of MODEN's and its Retry-After pass. MODEN documents no such fields.
#[test]
fn ratelimit_headers_draft_10_only_our_own_are_told() {
    let words = "HTTP/1.1 200 OK\r\nRateLimit: \"m\";r=7\r\nRateLimit-Policy: \"m\";q=9\r\n\
                 Retry-After: 7\r\nContent-Length: 2\r\n\r\n{}";
    let answer = Pair::answering(words).exchange(payment("a"));
    assert!(answer.all("ratelimit").is_empty());
    assert!(answer.all("ratelimit-policy").is_empty());
    assert_eq!(answer.field("retry-after"), "7");
    let pair = Pair::with(words, |builder| builder.tables(LIMITS));
    let answer = pair.exchange(payment("a"));
    assert_eq!(members(&answer, "ratelimit").len(), 2);
    assert!(!answer.field("ratelimit").contains("\"m\""));
}

/// ratelimit-headers draft 10
///
/// SHOULD: forward requests even where a refusal is expected; holding back is a policy of one's own.
///
/// Here: calls are held back after MODEN's 429 with Retry-After only, under a policy of our own that the
/// denial names: `upstream-limit`.
#[test]
fn ratelimit_headers_draft_10_holding_back_has_a_name() {
    let pair = Pair::answering(
        "HTTP/1.1 429 Slow\r\nRetry-After: 30\r\nRateLimit: \"m\";r=0;t=30\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(pair.exchange(payment("a")).outcome(), "answered");
    let held = pair.exchange(payment("b"));
    assert_eq!((held.status(), held.outcome()), (429, "not-sent"));
    assert_eq!(held.json()["violated-policies"][0], "upstream-limit");
    let low = Pair::answering(
        "HTTP/1.1 200 OK\r\nRateLimit: \"m\";r=0;t=30\r\nContent-Length: 2\r\n\r\n{}",
    );
    for _ in 0..2 {
        assert_eq!(low.exchange(payment("a")).outcome(), "answered");
    }
}

/// ratelimit-headers draft 10
///
/// MAY: name the violated policies in a problem document.
///
/// Here: in `violated-policies` of the 429, under the code `limit-exceeded`.
#[test]
fn ratelimit_headers_draft_10_a_denial_names_its_policy() {
    let pair = limited();
    for _ in 0..2 {
        assert_eq!(pair.exchange(payment("a")).status(), 200);
    }
    let denial = pair.exchange(payment("a"));
    assert_eq!(denial.code(), "limit-exceeded");
    let policies = denial.json()["violated-policies"].clone();
    assert_eq!(policies, serde_json::json!(["hourly"]));
}

/// ratelimit-headers draft 10
///
/// SHOULD NOT: send the triple of earlier drafts, which is gone.
///
/// Here: no RateLimit-Limit, -Remaining or -Reset.
#[test]
fn ratelimit_headers_draft_10_the_old_triple_is_not_sent() {
    let pair = limited();
    for _ in 0..3 {
        let answer = pair.exchange(payment("a"));
        for name in ["limit", "remaining", "reset"] {
            assert!(answer.all(&format!("ratelimit-{name}")).is_empty());
            assert!(answer.all(&format!("x-ratelimit-{name}")).is_empty());
        }
    }
}
