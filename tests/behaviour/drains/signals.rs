//! What the program says and does when it is signalled, and what it says of those it cut off.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{FEW_SECONDS, RUN, address_in, configure};
use crate::support::program::{Ended, Program, start_in};
use crate::support::{
    Client, ClosedPort, ScriptedUpstream, alone, eventually, payment, write_private,
};

/// An upstream that takes requests and never answers.
fn silent_upstream() -> ScriptedUpstream {
    ScriptedUpstream::start(|mut conversation| {
        conversation.request();
        conversation.listen();
    })
}

/// Replaces a setting of `[server]` in a configuration of [`configure`].
fn set(folder: &TempDir, lines: &str) {
    let path = folder.path().join("gateway.toml");
    let text = std::fs::read_to_string(&path).expect("it was written");
    let text = text.replace("drain_timeout = \"2s\"\n", lines);
    write_private(&path, &text);
}

/// Starts the program, and a payment that never ends.
fn start_with_stuck_payment(folder: &TempDir, upstream: &ScriptedUpstream) -> (Program, Client) {
    let mut program = start_in(folder.path(), &RUN, &[]);
    let address = address_in(&program.stderr.until("\"listening\""));
    program.stderr.until("the credential is loaded");
    let mut client = Client::connect(address);
    client.begin(payment("order-1"));
    eventually("the request at the upstream", || upstream.requests().pop());
    (program, client)
}

/// The log has a line for the stuck payment, and the last one counts it.
#[track_caller]
fn assert_names_the_stuck_payment(ended: &Ended) {
    assert_eq!(ended.code, 70);
    let log: Vec<Value> = ended
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    let named: Vec<_> = log
        .iter()
        .filter(|line| line["message"] == "the end of the drain cut off a request")
        .collect();
    assert_eq!(named.len(), 1, "{log:?}");
    let named = named[0];
    assert_eq!(named["level"], "WARN");
    assert_eq!(named["request_id"], "order-1");
    assert_eq!(named["route"], "create-payment");
    assert_eq!(named["method"], "POST");
    assert_eq!(named["outcome"], "unknown");
    assert!(named["running"].is_string(), "{named}");

    let last = log.last().expect("there are lines");
    assert_eq!(last["message"], "the drain ended before every request did");
    assert_eq!(last["requests"], 1);
    assert_eq!(last["connections"], 1);

    let access: Value = serde_json::from_str(ended.stdout.trim()).expect("one line of JSON");
    assert_eq!(access["request_id"], "order-1");
    assert_eq!(access["exchange_id"], named["exchange_id"]);
    assert_eq!(access["outcome"], "unknown");
}

#[test]
fn what_does_not_end_in_time_is_named_in_the_last_lines() {
    let _alone = alone();
    let upstream = silent_upstream();
    let folder = configure(&upstream.base_url(), "stdout");
    let (program, _client) = start_with_stuck_payment(&folder, &upstream);
    program.signal(Signal::TERM);
    assert_names_the_stuck_payment(&program.end());
}

#[test]
fn a_second_signal_ends_the_drain_at_once_and_names_what_it_cut_off() {
    let _alone = alone();
    let upstream = silent_upstream();
    let folder = configure(&upstream.base_url(), "stdout");
    set(&folder, "drain_timeout = \"1h\"\n");
    let (mut program, _client) = start_with_stuck_payment(&folder, &upstream);
    program.signal(Signal::TERM);
    program.stderr.until("\"draining\"");
    program.signal(Signal::TERM);
    assert_names_the_stuck_payment(&program.end());
}

#[test]
fn a_second_signal_ends_the_delay_too() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    set(&folder, "drain_delay = \"1h\"\n");
    let mut program = start_in(folder.path(), &RUN, &[]);
    program.stderr.until("\"serving\"");
    program.signal(Signal::TERM);
    program.stderr.until("\"draining\"");
    program.signal(Signal::TERM);
    let ended = program.end_within(FEW_SECONDS).expect("an end at once");
    assert_eq!(ended.code(), Some(0), "nothing was cut off");
}

#[test]
fn connections_without_a_request_that_are_closed_at_the_end_are_told_and_no_fault() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        while conversation.request().is_some() {
            conversation.answer("{}");
        }
    });
    let folder = configure(&upstream.base_url(), "off");
    set(&folder, "drain_timeout = \"100ms\"\n");
    let mut program = start_in(folder.path(), &RUN, &[]);
    let address = address_in(&program.stderr.until("\"listening\""));
    program.stderr.until("\"serving\"");
    let mut idle = Client::connect(address);
    assert_eq!(idle.exchange(payment("order-1")).status(), 200);
    program.signal(Signal::TERM);
    let ended = program.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let last = ended.stderr.lines().last().expect("a last line");
    let last: Value = serde_json::from_str(last).expect("a line of JSON");
    assert_eq!(last["level"], "INFO");
    assert_eq!(last["connections"], 1);
}

#[test]
fn a_request_that_had_only_begun_is_cut_off_and_a_fault() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    set(&folder, "drain_timeout = \"1500ms\"\n");
    let mut program = start_in(folder.path(), &RUN, &[]);
    let address = address_in(&program.stderr.until("\"listening\""));
    program.stderr.until("\"serving\"");
    let mut client = Client::connect(address);
    client.begin("POST /pay/gateway HTTP/1.1\r\nHost");
    program.signal(Signal::TERM);
    let ended = program.end();
    assert_eq!(ended.code, 70, "{}", ended.stderr);
}

/// Ctrl-C under a program that passes its own end on.
#[test]
fn sigterm_and_sigint_that_come_together_are_one_signal_and_later_they_are_two() {
    let _alone = alone();
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    set(&folder, "drain_delay = \"1h\"\n");
    let mut program = start_in(folder.path(), &RUN, &[]);
    program.stderr.until("\"serving\"");
    program.signal(Signal::INT);
    program.stderr.until("\"draining\"");
    program.signal(Signal::TERM);
    let ended = program.end_within(Duration::from_millis(1500));
    assert_eq!(ended, None, "it was cut short");
    program.signal(Signal::TERM);
    let ended = program.end_within(FEW_SECONDS).expect("an end at once");
    assert_eq!(ended.code(), Some(0), "nothing was cut off");
}

#[test]
fn a_hangup_ends_nothing_and_says_what_to_do_instead() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    let mut program = start_in(folder.path(), &RUN, &[]);
    program.stderr.until("\"serving\"");
    program.signal(Signal::HUP);
    let line = program.stderr.until("SIGHUP is ignored");
    assert!(line.contains("WARN"), "{line}");
    assert!(line.contains("restart"), "{line}");
    program.signal(Signal::TERM);
    assert_eq!(program.end().code, 0);
}

#[test]
fn the_log_says_at_the_start_where_operators_are_served() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    let mut program = start_in(folder.path(), &RUN, &[]);
    let address = address_in(&program.stderr.until("\"admin listening\""));
    let stream = std::net::TcpStream::connect(address);
    assert!(stream.is_ok(), "{stream:?}");
}

#[test]
fn the_log_says_at_the_start_how_how_long_the_end_can_take() {
    let folder = configure(&ClosedPort::bind().base_url(), "off");
    set(&folder, "drain_delay = \"5s\"\ndrain_timeout = \"30s\"\n");
    let mut program = start_in(folder.path(), &RUN, &[]);
    let line = program.stderr.until("\"serving\"");
    assert!(line.contains(r#""ends_within":"38s""#), "{line}");
}
