//! What is remembered of a request.

use super::client::{DEMO, post, request};
use super::*;

#[tokio::test]
async fn records_every_line_of_a_request_but_prints_no_credential() -> TestResult {
    let simulator = start().await?;
    let fields = [("X-Twice", "1"), ("accept", "*/*"), ("x-twice", "2")];
    connect(&simulator)
        .await?
        .ask(post("/pay/gateway?a=b", &fields, "{}"))
        .await?;
    let records = simulator.control().requests();
    let record = &records[0];
    assert_eq!(record.environment, Some(Environment::Production));
    assert_eq!(record.path, "/pay/gateway?a=b");
    assert_eq!((record.body_length, record.status), (2, Some(412)));
    let lines: Vec<_> = record
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    let names: Vec<_> = lines.iter().map(|(name, _)| *name).collect();
    let expected = [
        "host",
        "authorization",
        "content-type",
        "content-length",
        "x-twice",
        "x-twice",
        "accept",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        (lines[4].1.as_bytes(), lines[5].1.as_bytes()),
        (&b"1"[..], &b"2"[..])
    );
    assert_eq!(record.headers["authorization"], DEMO);
    assert!(!format!("{record:?}").contains("ZGVtby"));
    assert!(!serde_json::to_string(record)?.contains("ZGVtby"));
    Ok(())
}

#[tokio::test]
async fn tells_an_empty_request_with_length_zero_from_one_without_length() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    client.ask(post("/pay/inquire/wallet", &[], "")).await?;
    let fields = [("authorization", DEMO)];
    client
        .ask(request("POST", "/pay/inquire/wallet", &fields, ""))
        .await?;
    let records = simulator.control().requests();
    let lengths: Vec<_> = records.iter().map(|record| record.content_length).collect();
    assert_eq!(lengths, [Some(0), None]);
    Ok(())
}

#[tokio::test]
async fn records_a_request_whose_client_hung_up_and_commits_nothing() -> TestResult {
    let simulator = start().await?;
    let mut client = connect(&simulator).await?;
    let whole = submit("A-1", None);
    client.send(&whole[..whole.len() - 1]).await?;
    drop(client);
    let records = recorded(&simulator, 1).await?;
    assert_eq!(records[0].status, None);
    assert_eq!(committed(&simulator, "A-1"), 0);
    Ok(())
}

#[tokio::test]
async fn forgets_the_oldest_requests_and_counts_on() -> TestResult {
    let options = SimulatorOptions {
        record_limit: 2,
        ..SimulatorOptions::default()
    };
    let simulator = Simulator::start(options).await?;
    let mut client = connect(&simulator).await?;
    for path in ["/1", "/2", "/3"] {
        client.ask(post(path, &[], "")).await?;
    }
    let records = simulator.control().requests();
    let paths: Vec<_> = records.iter().map(|record| record.path.as_str()).collect();
    assert_eq!(paths, ["/2", "/3"]);
    assert_eq!(simulator.control().request_count(), 3);
    Ok(())
}

#[tokio::test]
async fn only_counts_when_recording_is_off() -> TestResult {
    let options = SimulatorOptions {
        record: false,
        ..SimulatorOptions::default()
    };
    let simulator = Simulator::start(options).await?;
    connect(&simulator).await?.ask(submit("A-1", None)).await?;
    assert!(simulator.control().requests().is_empty());
    assert_eq!(simulator.control().request_count(), 1);
    assert_eq!(committed(&simulator, "A-1"), 1);
    Ok(())
}
