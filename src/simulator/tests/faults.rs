//! What goes wrong on demand, and what the peer sees of it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{post, request};
use super::*;

#[tokio::test]
async fn answers_errors_on_demand_and_commits_nothing() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    for (fault, status) in [
        ("429", 429),
        ("429=7", 429),
        ("500", 500),
        ("502", 502),
        ("503", 503),
        ("504", 504),
        ("401", 401),
    ] {
        let answer = client.ask(submit("A-1", Some(fault))).await?;
        assert_eq!(answer.status, status);
        assert_eq!(answer.head.contains("retry-after: 7\r\n"), fault == "429=7");
    }
    assert_eq!(simulator.control().committed_total(), 0);
    let records = simulator.control().requests();
    assert!(
        records
            .iter()
            .all(|record| record.sn.as_deref() == Some("A-1"))
    );
    Ok(())
}

#[tokio::test]
async fn refuses_a_fault_that_it_does_not_know() -> TestResult {
    let simulator = start().await?;
    let answer = connect(&simulator)
        .await?
        .ask(submit("A-1", Some("lost")))
        .await?;
    assert_eq!(answer.status, 400);
    assert_eq!(committed(&simulator, "A-1"), 0);
    Ok(())
}

#[tokio::test]
async fn commits_before_it_delays_the_answer() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let begin = Instant::now();
    client.send(submit("A-1", Some("delay=300ms"))).await?;
    recorded(&simulator, 1).await?;
    assert_eq!(committed(&simulator, "A-1"), 1);
    assert_eq!(client.answer().await?.status, 200);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    Ok(())
}

#[tokio::test]
async fn commits_and_hangs_up_without_a_byte_when_the_answer_is_lost() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    client
        .send(submit("A-1", Some("lost-after-commit")))
        .await?;
    let (content, end) = client.rest().await?;
    assert_eq!(content, b"");
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(committed(&simulator, "A-1"), 1);
    assert_eq!(simulator.control().requests()[0].status, None);
    Ok(())
}

#[tokio::test]
async fn resets_after_the_head_before_anything_is_committed() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let whole = submit("A-1", Some("reset-before"));
    let (head, _) = whole.split_once("\r\n\r\n").expect("there is a head");
    client.send(format!("{head}\r\n\r\n")).await?;
    let (content, end) = client.rest().await?;
    assert_eq!(content, b"");
    assert!(is_reset(&end), "{end:?}");
    assert_eq!(committed(&simulator, "A-1"), 0);
    assert_eq!(
        simulator.control().requests()[0].fault,
        Some(Fault::ResetBefore)
    );
    Ok(())
}

#[tokio::test]
async fn resets_in_the_middle_of_the_answer() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let usual = client.ask(submit("A-1", None)).await?;
    client.send(submit("A-2", Some("reset-during"))).await?;
    let (content, end) = client.rest().await?;
    assert!(is_reset(&end), "{end:?}");
    let content = String::from_utf8(content)?;
    let (head, part) = content.split_once("\r\n\r\n").expect("the head is whole");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let announced = format!("content-length: {}", usual.content.len());
    assert!(head.contains(&announced), "{head}");
    assert_eq!(part.len(), usual.content.len() / 2);
    assert_eq!(committed(&simulator, "A-2"), 1);
    Ok(())
}

#[tokio::test]
async fn resets_after_a_complete_answer_that_promised_nothing_of_the_kind() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    client.send(submit("A-1", Some("reset-after"))).await?;
    let answer = client.answer().await?;
    assert_eq!(
        (answer.status, &answer.json()?["status"]),
        (200, &json!("success"))
    );
    assert!(!answer.head.to_ascii_lowercase().contains("connection:"));
    let (content, end) = client.rest().await?;
    assert_eq!(content, b"");
    assert!(is_reset(&end), "{end:?}");
    assert_eq!(committed(&simulator, "A-1"), 1);
    Ok(())
}

#[tokio::test]
async fn strikes_refusals_with_faults_of_the_answer_too() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let fields = [("content-length", "0"), (FAULT_HEADER, "reset-after")];
    client
        .send(request("POST", "/pay/gateway", &fields, ""))
        .await?;
    let answer = client.answer().await?;
    assert_eq!(answer.status, 401);
    assert!(
        answer
            .head
            .contains("www-authenticate: Basic realm=\"simulator\"\r\n")
    );
    assert!(is_reset(&client.rest().await?.1));
    Ok(())
}

#[tokio::test]
async fn drips_a_complete_answer_and_keeps_the_connection() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let begin = Instant::now();
    let answer = client.ask(submit("A-1", Some("drip=2ms"))).await?;
    let least = Duration::from_millis(2) * u32::try_from(answer.content.len())?;
    assert!(begin.elapsed() >= least, "{:?}", begin.elapsed());
    assert_eq!(answer.json()?["status"], "success");
    assert_eq!(client.ask(submit("A-2", None)).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn sends_a_large_answer_of_exactly_the_size_asked_for() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    for (size, length) in [("3MiB", 3 << 20), ("100001", 100_001), ("0", 0)] {
        let fault = format!("large={size}");
        let fields = [(FAULT_HEADER, fault.as_str())];
        let answer = client.ask(post("/pay/echo/", &fields, "")).await?;
        assert_eq!((answer.status, answer.content.len()), (200, length));
    }
    Ok(())
}

#[tokio::test]
async fn prefers_the_fault_that_a_request_asks_for_to_the_rules() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    simulator
        .control()
        .set_fault(Fault::ServerError, Times::Next(1));
    assert_eq!(client.ask(submit("A-1", Some("429"))).await?.status, 429);
    assert_eq!(client.ask(submit("A-1", None)).await?.status, 500);
    assert_eq!(client.ask(submit("A-1", None)).await?.status, 200);
    simulator
        .control()
        .set_fault(Fault::ServerError, Times::Always);
    simulator.control().clear_faults();
    assert_eq!(client.ask(submit("A-1", None)).await?.status, 200);
    Ok(())
}
