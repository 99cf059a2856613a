//! Whatever an upstream does, the gateway answers truly, sends once, and serves the next request.
//!
//! [`faults::all`] is the table: each row is a fault on raw sockets and how it must end. What is seen
//! is printed with the test's own output, in the order of the table, whether it passes or not.

mod faults;

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Conversation, ScriptedUpstream, TestGateway, alone, eventually, in_parallel, payment,
};
use faults::{End, Fault, Moment, Seen};

/// Rows at a time; most of their time they wait for deadlines.
const AT_ONCE: usize = 12;

/// What the upstream answers where it behaves.
const GOOD: &str = r#"{"good":true}"#;

/// Deadlines that end a row soon, and that a busy machine still meets.
const DEADLINES: &str = r#"
response_timeout = "1500ms"
body_idle_timeout = "1500ms"
exchange_timeout = "3s"
"#;

/// Lets HEAD through, too.
const WITH_HEAD: &str = r#"
[[routes]]
name = "all"
path = "/pay/*"
methods = ["HEAD", "POST"]
"#;

/// How a row ended.
struct Row {
    seen: Seen,
    /// How often the request reached the upstream, in whole or in part.
    arrived: usize,
    is_alive: bool,
    /// What is wrong with it.
    faults: Vec<String>,
}

#[test]
fn every_fault_has_its_answer_and_the_gateway_survives_it() {
    let _alone = alone();
    let faults = faults::all();
    assert!(faults.len() >= 45);
    let shared: Vec<_> = faults.into_iter().map(Arc::new).collect();
    let rows = in_parallel(AT_ONCE, shared.len(), |number| {
        try_out(number, &shared[number])
    });
    print(&shared, &rows);
    let wrong: Vec<_> = shared
        .iter()
        .zip(&rows)
        .filter(|(_, row)| !row.faults.is_empty())
        .map(|(fault, row)| format!("{}: {}", fault.name, row.faults.join("; ")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Sends a request into the fault, and a good one after it.
fn try_out(number: usize, fault: &Arc<Fault>) -> Row {
    let has_acted = Arc::new(AtomicBool::new(false));
    let upstream = {
        let (fault, has_acted) = (Arc::clone(fault), Arc::clone(&has_acted));
        ScriptedUpstream::start(move |conversation| play(conversation, &fault, &has_acted))
    };
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .threads(1)
        .upstream(DEADLINES)
        .upstream(fault.hold_answer)
        .tables(WITH_HEAD)
        .start();
    if fault.moment != Moment::Fresh {
        let first = gateway.exchange(payment("first"));
        assert_eq!(first.body, GOOD.as_bytes(), "{}", fault.name);
    }
    let await_script = || {
        eventually("the script", || {
            has_acted.load(Ordering::Acquire).then_some(())
        });
    };
    if fault.moment == Moment::Idle {
        await_script();
    }

    let id = format!("fault-{number}");
    let mut client = gateway.connect();
    client.begin(fault.asked.request(&id));
    let seen = Seen::of(client.try_answer());
    drop(client);
    // What ends its connection behind its answer shall not do so while the next request is written:
    // that is a fault of its own.
    await_script();
    let next = gateway.exchange(payment("next"));
    let is_alive = next.status() == 200 && next.body == GOOD.as_bytes();
    let lines = gateway.stop();

    let whole = upstream.requests();
    let whole = whole
        .iter()
        .filter(|request| request.field("x-request-id") == id);
    let arrived = whole.count() + upstream.fragments().len();
    let mut faults = Vec::new();
    if !fault.expected.contains(&seen) {
        faults.push(format!("{seen:?} instead of {:?}", fault.expected));
    }
    if arrived > 1 || (arrived == 0 && seen.outcome == "answered") {
        faults.push(format!("arrived {arrived} times"));
    }
    if !is_alive {
        faults.push(format!("the next request got {next:?}"));
    }
    faults.extend(compare(&lines, &id, &seen));
    Row {
        seen,
        arrived,
        is_alive,
        faults,
    }
}

/// What the access log says otherwise than the reply.
fn compare(lines: &[Value], id: &str, seen: &Seen) -> Option<String> {
    let mut of_it = lines.iter().filter(|line| line["request_id"] == id);
    let (line, more) = (of_it.next(), of_it.next());
    let Some(line) = line.filter(|_| more.is_none()) else {
        return Some("not one line in the log".to_owned());
    };
    // The head of a reply that is cut later could not know it.
    let agrees = line["status"] == seen.status
        && line.get("code").and_then(Value::as_str) == seen.code.as_deref()
        && line["outcome"] == seen.outcome;
    (!agrees).then(|| format!("the log says {line}"))
}

/// The first connection has the fault, all others are good.
fn play(mut conversation: Conversation, fault: &Fault, has_acted: &AtomicBool) {
    if conversation.number > 0 {
        while conversation.request().is_some() {
            conversation.answer(GOOD);
        }
        return;
    }
    if fault.moment != Moment::Fresh {
        conversation.request();
        conversation.answer(GOOD);
    }
    let end = (fault.script)(&mut conversation);
    match end {
        End::Fin => conversation.close(),
        End::Reset => conversation.reset(),
        End::Stay => {
            has_acted.store(true, Ordering::Release);
            // Where the gateway trusts the connection, it gets what it asks for.
            while conversation.request().is_some() {
                conversation.answer(GOOD);
            }
        }
        End::Discard => {
            has_acted.store(true, Ordering::Release);
            conversation.discard();
        }
    }
    has_acted.store(true, Ordering::Release);
}

/// Past the capture of the test harness, which shows nothing of a test that passes.
fn print(faults: &[Arc<Fault>], rows: &[Row]) {
    let width = faults
        .iter()
        .map(|fault| fault.name.len())
        .max()
        .unwrap_or(0);
    let mut text = format!(
        "\n{:width$} | status   | code             | outcome  | arrived | alive\n",
        "fault"
    );
    for (fault, row) in faults.iter().zip(rows) {
        let status = match row.seen.is_cut {
            true => format!("{}, cut", row.seen.status),
            false => row.seen.status.to_string(),
        };
        let _ = writeln!(
            text,
            "{:width$} | {status:8} | {:16} | {:8} | {:7} | {}",
            fault.name,
            row.seen.code.as_deref().unwrap_or("-"),
            row.seen.outcome,
            row.arrived,
            if row.is_alive { "yes" } else { "NO" },
        );
    }
    let _ = writeln!(text, "{} faults", rows.len());
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).expect("somebody listens");
}

/// Sends payments to a breaker that opens after five failures within a minute.
fn breaking(upstream: &ScriptedUpstream, open_for: &str) -> TestGateway {
    TestGateway::builder()
        .scripted(upstream)
        .upstream(&format!(
            "breaker = {{ failures = 5, window = \"1m\", open_for = \"{open_for}\" }}"
        ))
        .start()
}

#[test]
fn a_breaker_that_is_open_sends_nothing_and_says_so_everywhere() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        while conversation.request().is_some() {
            conversation.say("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let gateway = breaking(&upstream, "1h");
    let state = || gateway.admin("/status").json()["upstream"]["breaker"].clone();
    assert_eq!(state(), "closed");
    for number in 0..5 {
        // MODEN's own 503 passes; it is complete, and only counted.
        let answer = gateway.exchange(payment(&format!("order-{number}")));
        assert_eq!((answer.status(), answer.outcome()), (503, "answered"));
    }
    let refused = gateway.exchange(payment("order-5"));
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.code(), "upstream-unavailable");
    assert_eq!(refused.outcome(), "not-sent");
    assert_eq!(
        refused.field("proxy-status"),
        "moden-gateway; error=http_request_denied"
    );
    let wait: u64 = refused.field("retry-after").parse().expect("seconds");
    assert!((3_500..=3_600).contains(&wait), "{wait}");
    // Nobody waits for a body that will not be sent.
    let mut client = gateway.connect();
    client.begin(
        "POST /pay/gateway HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 9\r\n\
         Expect: 100-continue\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!(answer.code(), "upstream-unavailable");
    assert!(answer.interim.is_empty());
    drop(client);

    assert_eq!(state(), "open");
    let ready = gateway.admin("/readyz");
    assert_eq!(ready.status(), 200);
    assert_eq!(ready.body, b"ready\ncircuit breaker open\n");
    let page = gateway.admin("/");
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(page.contains("upstream breaker<td>open"), "{page}");
    let text = String::from_utf8(gateway.admin("/metrics").body).expect("text");
    let scrape = crate::support::metrics::parse(&text).expect("metrics");
    assert_eq!(scrape.sum("gateway_upstream_breaker_state", &[]), 2.0);
    assert_eq!(
        scrape.sum("gateway_upstream_breaker_openings_total", &[]),
        1.0
    );
    let refusals = [("code", "upstream-unavailable")];
    assert_eq!(scrape.sum("gateway_proxy_errors_total", &refusals), 2.0);
    assert_eq!(upstream.requests().len(), 5);
}

#[test]
fn a_breaker_lets_one_through_at_a_time_and_closes_when_that_is_answered() {
    let is_well = Arc::new(AtomicBool::new(false));
    let upstream = {
        let is_well = Arc::clone(&is_well);
        ScriptedUpstream::start(move |mut conversation| {
            while conversation.request().is_some() {
                if !is_well.load(Ordering::Acquire) {
                    return conversation.reset();
                }
                conversation.answer(GOOD);
            }
        })
    };
    let gateway = breaking(&upstream, "50ms");
    for number in 0..5 {
        let answer = gateway.exchange(payment(&format!("order-{number}")));
        assert_eq!(answer.code(), "upstream-reset");
    }
    let opened = || {
        let text = String::from_utf8(gateway.admin("/metrics").body).expect("text");
        let scrape = crate::support::metrics::parse(&text).expect("metrics");
        scrape.sum("gateway_upstream_breaker_openings_total", &[])
    };
    // Every probe that fails opens it anew, and no more than one at a time arrives.
    eventually("a probe that fails", || {
        let before = upstream.requests().len();
        let answers = in_parallel(8, 8, |number| {
            gateway.exchange(payment(&format!("probe-{before}-{number}")))
        });
        let refused = |answer: &&crate::support::Message| answer.status() == 503;
        assert!(answers.iter().all(|answer| answer.status() >= 502));
        let refused = answers.iter().filter(refused).count();
        assert_eq!(8 - refused, upstream.requests().len() - before);
        (refused < 8).then_some(())
    });
    assert!(opened() >= 2.0);
    is_well.store(true, Ordering::Release);
    eventually("an answer", || {
        let answer = gateway.exchange(payment("order-well"));
        (answer.status() == 200).then_some(())
    });
    assert_eq!(
        gateway.admin("/status").json()["upstream"]["breaker"],
        "closed"
    );
    assert_eq!(gateway.admin("/readyz").body, b"ready\n");
    for number in 0..20 {
        let answer = gateway.exchange(payment(&format!("order-after-{number}")));
        assert_eq!(answer.status(), 200);
    }
}

#[test]
fn a_client_that_sends_slowly_keeps_no_breaker_half_open() {
    let is_well = Arc::new(AtomicBool::new(false));
    let upstream = {
        let is_well = Arc::clone(&is_well);
        ScriptedUpstream::start(move |mut conversation| {
            if !is_well.load(Ordering::Acquire) {
                conversation.await_bytes();
                return conversation.reset();
            }
            while conversation.request().is_some() {
                conversation.answer(GOOD);
            }
        })
    };
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .listener("body_timeout = \"1h\"")
        .upstream("exchange_timeout = \"1h\"\nbreaker = { failures = 5, open_for = \"500ms\" }")
        .start();
    for number in 0..5 {
        gateway.exchange(payment(&format!("order-{number}")));
    }
    is_well.store(true, Ordering::Release);
    let connections = upstream.connection_count();
    let state = || gateway.admin("/status").json()["upstream"]["breaker"].clone();
    eventually("the time to try", || (state() == "half-open").then_some(()));
    // It is the one that is let through, and never ends.
    let mut slow = gateway.connect();
    slow.begin(
        "POST /pay/upload HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 1000000\r\n\r\n",
    );
    slow.write(vec![b'x'; 70_000]);
    eventually("its beginning", || {
        (upstream.connection_count() > connections).then_some(())
    });
    eventually("another that is let through", || {
        let answer = gateway.exchange(payment("order-well"));
        (answer.status() == 200).then_some(())
    });
    assert_eq!(state(), "closed");
}

#[test]
fn refusals_and_failures_that_are_not_the_upstreams_open_no_breaker() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        for status in ["500 Oops", "412 No", "429 Slow", "404 Not here"]
            .iter()
            .cycle()
        {
            if conversation.request().is_none() {
                return;
            }
            conversation.say(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let gateway = breaking(&upstream, "1h");
    for number in 0..40 {
        let answer = gateway.exchange(payment(&format!("order-{number}")));
        assert_eq!(answer.outcome(), "answered");
        // A long body that breaks off on its way, by the client's own fault.
        let mut client = gateway.connect();
        client.begin(
            "POST /pay/upload HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 1000000\r\n\r\n",
        );
        client.write(vec![b'x'; 70_000]);
        client.half_close();
        let _ = client.try_answer();
    }
    assert_eq!(
        gateway.admin("/status").json()["upstream"]["breaker"],
        "closed"
    );
}

#[test]
fn clients_that_send_their_bodies_too_slowly_open_no_breaker() {
    let upstream = ScriptedUpstream::start(|mut conversation| conversation.discard());
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .upstream("exchange_timeout = \"100ms\"\nbreaker = { failures = 2 }")
        .start();
    let head = "POST /pay/upload HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 1000000\r\n\r\n";
    for _ in 0..4 {
        let mut client = gateway.connect();
        client.begin(head);
        client.write(vec![b'x'; 70_000]);
        let answer = client.answer();
        assert_eq!(answer.code(), "upstream-timeout");
        assert_eq!(answer.outcome(), "unknown");
    }
    let state = || gateway.admin("/status").json()["upstream"]["breaker"].clone();
    assert_eq!(state(), "closed");
    // Bodies that came whole and get no answer are the upstream's fault.
    for number in 0..2 {
        let answer = gateway.exchange(payment(&format!("order-{number}")));
        assert_eq!(answer.code(), "upstream-timeout");
    }
    assert_eq!(state(), "open");
}

#[test]
fn clients_that_break_off_while_they_are_answered_open_no_breaker() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        conversation.await_bytes();
        conversation.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789");
        conversation.discard();
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .upstream("breaker = { failures = 2 }")
        .start();
    for _ in 0..2 {
        let mut client = gateway.connect();
        client.begin(
            "POST /pay/upload HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 1000000\r\n\r\n",
        );
        client.write(vec![b'x'; 70_000]);
        eventually("the beginning of the answer", || {
            let held = &gateway.admin("/status").json()["load"]["held_bytes"];
            (held.as_u64() == Some(10)).then_some(())
        });
        client.half_close();
        let _ = client.try_answer();
    }
    // Both exchanges have ended, whatever became of their clients.
    gateway.await_log_lines(2);
    let state = || gateway.admin("/status").json()["upstream"]["breaker"].clone();
    assert_eq!(state(), "closed");
}

#[test]
fn a_client_that_leaves_no_time_for_an_answer_opens_no_breaker() {
    let upstream = ScriptedUpstream::start(|mut conversation| conversation.discard());
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .upstream("exchange_timeout = \"1s\"\nbreaker = { failures = 2 }")
        .start();
    for _ in 0..2 {
        let mut client = gateway.connect();
        client.begin(
            "POST /pay/upload HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 70001\r\n\r\n",
        );
        client.write(vec![b'x'; 70_000]);
        // The client's own pace is what is tried here.
        std::thread::sleep(Duration::from_millis(700));
        client.write(b"x");
        assert_eq!(client.answer().code(), "upstream-timeout");
    }
    let state = || gateway.admin("/status").json()["upstream"]["breaker"].clone();
    assert_eq!(state(), "closed");
}

/// Waits between two bytes of what drips.
fn drip(conversation: &mut Conversation, words: &str, pause: Duration) {
    for byte in words.as_bytes() {
        if conversation.try_say([*byte]).is_err() {
            return;
        }
        std::thread::sleep(pause);
    }
}
