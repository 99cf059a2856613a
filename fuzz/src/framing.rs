//! Where messages end: the framing guard, hyper, and a strict reader side by side.

mod answers;
mod requests;

use moden_gateway::framing::{Framing, HeadLimits, Passed, Violation};

use super::asked::ASKED;

/// What a guard made of bytes.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// How many bytes it passed on.
    passed: usize,
    /// Where each complete message ends, and how its body was framed.
    messages: Vec<(usize, Framing)>,
    /// What broke it.
    violation: Option<Violation>,
}

/// The guard's verdict does not depend on the pieces in which bytes come; and hyper, which sees
/// what the guard passes, finds the same messages with the same bodies, or fewer of them and then
/// an error, but never another one.
///
/// The input is what a client sends; or, where it begins with `> METHOD`, what an upstream answers
/// to requests of these methods, the next such line being the next request.
pub fn framing(data: &[u8]) {
    if data.starts_with(ASKED) {
        answers::check(data);
    } else {
        requests::check(data);
    }
}

/// What one and the other guard have in common here.
trait Guard {
    fn inspect(&mut self, bytes: &[u8]) -> Result<Passed, Violation>;
    fn framing(&self) -> Framing;
    /// Goes on behind a complete message; false if there is none.
    fn begin_next(&mut self) -> bool;
}

/// Shows a guard the bytes in pieces of these sizes, as a connection would.
fn feed(mut guard: impl Guard, bytes: &[u8], sizes: impl Fn(&[u8]) -> usize) -> Verdict {
    let mut verdict = Verdict {
        passed: 0,
        messages: Vec::new(),
        violation: None,
    };
    let mut shown = 0;
    loop {
        let waiting = &bytes[verdict.passed..shown];
        let passed = match guard.inspect(waiting) {
            Ok(passed) => passed,
            Err(violation) => {
                assert_eq!(guard.inspect(waiting), Err(violation), "it was mended");
                verdict.violation = Some(violation);
                return verdict;
            }
        };
        assert!(passed.bytes <= waiting.len(), "bytes that were not shown");
        verdict.passed += passed.bytes;
        if passed.is_complete {
            verdict.messages.push((verdict.passed, guard.framing()));
            if !guard.begin_next() {
                return verdict;
            }
        }
        // A broken body lets pass what was in front of the fault, and tells it at the next look.
        if passed.bytes > 0 {
            continue;
        }
        if shown == bytes.len() {
            return verdict;
        }
        let rest = &bytes[shown..];
        shown += sizes(rest).clamp(1, rest.len());
    }
}

/// All at once, byte by byte, and in pieces of odd sizes.
fn judge<G: Guard>(guard: impl Fn() -> G, bytes: &[u8]) -> Verdict {
    let whole = feed(guard(), bytes, <[u8]>::len);
    let single = feed(guard(), bytes, |_| 1);
    assert_eq!(single, whole, "byte by byte");
    for salt in 0..3 {
        let odd = |rest: &[u8]| {
            let first = rest.iter().take(4).map(|byte| usize::from(*byte));
            (first.sum::<usize>() + rest.len() * 7 + salt) % 11
        };
        assert_eq!(feed(guard(), bytes, odd), whole, "in odd pieces");
    }
    whole
}

/// As the gateway is configured by default.
const fn limits(max_bytes: usize) -> HeadLimits {
    HeadLimits {
        max_bytes,
        max_fields: 100,
    }
}
