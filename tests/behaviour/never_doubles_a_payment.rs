//! What left is never sent again, and what a client began is brought to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use moden_gateway::domain::Environment;
use moden_gateway::simulator::{Control, Fault, Times};
use serde_json::Value;

use crate::support::{
    Conversation, Message, ScriptedUpstream, TestGateway, TestSimulator, alone, eventually,
    in_parallel, payment,
};

const TRIES: usize = 1000;
const CONCURRENCY: usize = 16;

/// Request ids that the upstream has answered in full.
type Answered = Arc<Mutex<BTreeSet<String>>>;

fn id(message: &Message) -> String {
    message.field("x-request-id").to_owned()
}

fn answer(conversation: &mut Conversation, request: &Message, answered: &Answered) {
    answered.lock().expect("no panic").insert(id(request));
    conversation.answer("{}");
}

/// Answers the first request of each connection, and ends the connection in one of four ways
/// around the moment at which the gateway uses it again.
fn closes_as_we_write(answered: Answered) -> ScriptedUpstream {
    ScriptedUpstream::start(move |mut conversation| {
        let Some(first) = conversation.request() else {
            return;
        };
        answer(&mut conversation, &first, &answered);
        let number = u64::try_from(conversation.number).expect("a small number");
        let moment = Duration::from_micros(number * 7919 % 400);
        match conversation.number % 4 {
            0 => {
                thread::sleep(moment);
                conversation.close();
            }
            1 => {
                thread::sleep(moment);
                conversation.reset();
            }
            2 => {
                if conversation.request().is_some() {
                    conversation.reset();
                }
            }
            _ => {
                if let Some(second) = conversation.request() {
                    answer(&mut conversation, &second, &answered);
                    conversation.close();
                }
            }
        }
    })
}

#[test]
fn a_pooled_connection_that_closes_as_we_write_doubles_nothing_and_lies_about_nothing() {
    let _alone = alone();
    let answered = Answered::default();
    let upstream = closes_as_we_write(Arc::clone(&answered));
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .without_breaker()
        .start();
    let replies = in_parallel(4, TRIES, |number| {
        gateway.exchange(payment(&format!("try-{number}-end")))
    });
    let lines = gateway.stop();

    let mut arrivals: BTreeMap<String, usize> = BTreeMap::new();
    for request in upstream.requests() {
        *arrivals.entry(id(&request)).or_default() += 1;
    }
    let fragments = upstream.fragments().concat();
    let fragments = String::from_utf8_lossy(&fragments);
    let answered = answered.lock().expect("no panic");
    for reply in &replies {
        let id = id(reply);
        let arrived = arrivals.get(&id).copied().unwrap_or_default();
        assert!(arrived <= 1, "{id} arrived {arrived} times");
        match reply.outcome() {
            "not-sent" => {
                assert_eq!(arrived, 0, "{id} was sent after all");
                assert!(!fragments.contains(&id), "part of {id} was sent after all");
            }
            "answered" => {
                assert_eq!(reply.status(), 200);
                assert!(answered.contains(&id), "{id} was never answered");
            }
            "unknown" => assert!(!answered.contains(&id), "{id} was answered: {reply:?}"),
            other => panic!("{other} is no outcome"),
        }
    }
    assert_log_agrees(&lines, &replies);
    let is_reused = |line: &&Value| line["connection"] == "reused";
    assert!(lines.iter().filter(is_reused).count() > TRIES / 10);
    let is_unknown = |line: &&Value| line["outcome"] == "unknown";
    assert!(
        lines.iter().filter(is_unknown).count() > 0,
        "no race was lost"
    );
}

fn assert_log_agrees(lines: &[Value], replies: &[Message]) {
    assert_eq!(lines.len(), replies.len(), "one line a request");
    let outcomes: BTreeMap<_, _> = lines
        .iter()
        .map(|line| (line["request_id"].as_str(), &line["outcome"]))
        .collect();
    for reply in replies {
        let logged = outcomes[&Some(reply.field("x-request-id"))];
        assert_eq!(logged, reply.outcome(), "{reply:?}");
    }
}

#[test]
fn a_pooled_connection_that_is_killed_with_the_second_request_never_sends_it_again() {
    let _alone = alone();
    let upstream = ScriptedUpstream::start(|mut conversation| {
        if conversation.request().is_some() {
            conversation.answer("{}");
        }
        if conversation.request().is_some() {
            conversation.reset();
        }
    });
    let gateway = TestGateway::builder()
        .scripted(&upstream)
        .without_breaker()
        .start();
    // One client is served by one core, hence by one pool.
    let mut client = gateway.connect();
    let replies: Vec<_> = (0..TRIES)
        .map(|number| client.exchange(payment(&format!("try-{number}"))))
        .collect();
    for (number, reply) in replies.iter().enumerate() {
        let expected = ["answered", "unknown"][number % 2];
        assert_eq!(reply.outcome(), expected, "{reply:?}");
    }
    assert_log_agrees(&gateway.stop(), &replies);
    let ids: Vec<_> = upstream.requests().iter().map(id).collect();
    let expected: Vec<_> = (0..TRIES).map(|number| format!("try-{number}")).collect();
    assert_eq!(ids, expected, "each once and in order");
}

#[test]
fn a_pooled_connection_that_closed_in_the_meantime_is_not_used() {
    let (closed, is_closed) = mpsc::channel();
    let upstream = ScriptedUpstream::start(move |mut conversation| {
        conversation.request();
        conversation.answer("{}");
        conversation.close();
        closed.send(()).expect("the test waits");
    });
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let mut client = gateway.connect();
    for number in 0..20 {
        let reply = client.exchange(payment(&format!("order-{number}")));
        assert_eq!(reply.outcome(), "answered", "{reply:?}");
        is_closed.recv().expect("the script runs");
    }
    assert!(gateway.stop().iter().all(|line| line["attempts"] == 1));
    assert_eq!(upstream.connection_count(), 20);
}

#[test]
fn a_pooled_connection_that_said_something_unasked_is_not_used() {
    let (poison, is_wanted) = mpsc::channel();
    let (said, is_said) = mpsc::channel();
    let is_wanted = Mutex::new(is_wanted);
    let upstream = ScriptedUpstream::start(move |mut conversation| {
        let Some(request) = conversation.request() else {
            return;
        };
        conversation.answer(&format!("{{\"for\":\"{}\"}}", id(&request)));
        is_wanted
            .lock()
            .expect("no panic")
            .recv()
            .expect("the test goes on");
        conversation.answer("{\"for\":\"somebody else\"}");
        said.send(()).expect("the test waits");
        conversation.listen();
    });
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let mut client = gateway.connect();
    for number in 0..20 {
        let sn = format!("order-{number}");
        // The poison of even ones comes right behind the answer, that of odd ones later.
        if number % 2 == 0 {
            poison.send(()).expect("the script waits");
        }
        let reply = client.exchange(payment(&sn));
        assert_eq!(reply.json()["for"], sn, "the answer of somebody else");
        if number % 2 == 1 {
            poison.send(()).expect("the script waits");
        }
        is_said.recv().expect("the script runs");
    }
    drop(gateway);
    assert_eq!(upstream.connection_count(), 20);
}

#[test]
fn a_reply_lost_after_the_commit_is_never_asked_for_again() {
    let _alone = alone();
    let simulator = TestSimulator::start();
    simulator
        .control()
        .set_fault(Fault::LostAfterCommit, Times::Always);
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .without_breaker()
        .start();
    in_parallel(CONCURRENCY, TRIES, |number| {
        let reply = gateway.exchange(payment(&format!("order-{number}")));
        assert_eq!(reply.outcome(), "unknown", "{reply:?}");
    });
    assert_each_committed_once(&simulator.control(), TRIES);
}

fn assert_each_committed_once(control: &Control, count: usize) {
    let orders = control.orders(Environment::Sandbox);
    assert_eq!(orders.len(), count);
    assert!(orders.values().all(|order| order.committed == 1));
}

#[test]
fn clients_that_leave_right_after_sending_have_paid() {
    let _alone = alone();
    let simulator = TestSimulator::start();
    // Nobody waits for an answer, so all of them may want a connection to MODEN at once.
    let gateway = TestGateway::builder()
        .simulator(&simulator)
        .upstream("queue_timeout = \"20s\"")
        .start();
    in_parallel(CONCURRENCY, TRIES, |number| {
        let mut client = gateway.connect();
        client.write(payment(&format!("order-{number}")));
    });
    let lines = gateway.await_log_lines(TRIES);
    assert_eq!(lines.len(), TRIES);
    for line in &lines {
        assert_eq!(line["outcome"], "answered", "{line}");
        assert_eq!(line["status"], 200, "{line}");
    }
    assert_each_committed_once(&simulator.control(), TRIES);
}

#[test]
fn clients_that_half_close_after_sending_get_their_answer() {
    let _alone = alone();
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    in_parallel(CONCURRENCY, TRIES, |number| {
        let mut client = gateway.connect();
        client.begin(payment(&format!("order-{number}")));
        client.half_close();
        assert_eq!(client.answer().outcome(), "answered");
    });
    assert_each_committed_once(&simulator.control(), TRIES);
    let lines = gateway.stop();
    assert_eq!(lines.len(), TRIES);
    assert!(lines.iter().all(|line| line["outcome"] == "answered"));
}

#[test]
fn clients_that_leave_while_moden_thinks_have_paid_and_the_drain_waits_for_them() {
    const CLIENTS: usize = 64;
    let _alone = alone();
    let simulator = TestSimulator::start();
    let control = simulator.control();
    control.set_fault(Fault::Delay(Duration::from_secs(1)), Times::Always);
    let gateway = TestGateway::before(&simulator);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| gateway.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.write(payment(&format!("order-{number}")));
    }
    eventually("the commits", || {
        (control.request_count() == CLIENTS as u64).then_some(())
    });
    for (number, client) in clients.into_iter().enumerate() {
        if number.is_multiple_of(2) {
            client.reset();
        } else {
            drop(client);
        }
    }
    let lines = gateway.stop();
    assert_eq!(lines.len(), CLIENTS);
    for line in &lines {
        assert_eq!(line["outcome"], "answered", "{line}");
    }
    assert_each_committed_once(&control, CLIENTS);
}

#[test]
fn a_client_that_vanishes_before_its_body_is_whole_has_sent_nothing() {
    let simulator = TestSimulator::start();
    let gateway = TestGateway::before(&simulator);
    let whole = payment("order-1");
    let half = whole.len() - 40;
    let starts = [
        whole.get(..half).expect("a long request").to_vec(),
        b"POST /pay/gateway HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 5\r\n\r\n".to_vec(),
        b"POST /pay/gateway HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n\
          2\r\n{}\r\n"
            .to_vec(),
        b"POST /pay/gateway HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n\
          5\r\n{"
            .to_vec(),
    ];
    for start in &starts {
        let mut client = gateway.connect();
        client.write(start);
    }
    let lines = gateway.await_log_lines(starts.len());
    for line in &lines {
        assert_eq!(line["outcome"], "not-sent", "{line}");
        assert_eq!(line["code"], "request-malformed", "{line}");
    }
    drop(gateway);
    assert_eq!(simulator.control().request_count(), 0);
}

#[test]
fn an_empty_post_is_sent_with_its_length() {
    let upstream = ScriptedUpstream::start(|mut conversation| {
        while conversation.request().is_some() {
            conversation.answer("{}");
        }
    });
    let gateway = TestGateway::builder().scripted(&upstream).start();
    let head = "POST /pay/inquire/wallet HTTP/1.1\r\nHost: gateway.test\r\n";
    for body in [
        "\r\n",
        "Content-Length: 0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        gateway.exchange(format!("{head}{body}"));
    }
    drop(gateway);
    let requests = upstream.requests();
    assert_eq!(requests.len(), 3);
    for request in requests {
        assert_eq!(request.field("content-length"), "0");
        assert!(request.all("transfer-encoding").is_empty());
    }
}
