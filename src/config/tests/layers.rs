//! How files and variables come together, and which of them a fault is told of.

use super::*;

#[test]
fn merges_tables_key_by_key_and_replaces_lists() {
    let base = "[server]\nthreads = 1\ndrain_timeout = \"1s\"\n[[listeners]]\n[[listeners]]\n"
        .to_owned()
        + "address = \"127.0.0.1:1\"\n"
        + CREDENTIAL;
    let folder = folder(&[
        ("base.toml", &base),
        (
            "sandbox.toml",
            "[server]\nthreads = 2\n[[listeners]]\naddress = \"127.0.0.1:2\"",
        ),
        ("last.toml", "[server]\nthreads = 3"),
    ]);
    let mut options = LoadOptions {
        paths: vec![folder.path().into()],
        environment: Some("sandbox".into()),
        ..LoadOptions::default()
    };
    let loaded = load(&options).expect("complete");
    assert_eq!(loaded.config.server.threads, 2);
    assert_eq!(loaded.config.server.drain_timeout.as_secs(), 1);
    assert_eq!(loaded.config.listeners.len(), 1);
    assert_eq!(loaded.files.len(), 2);

    options.paths.push(folder.path().join("last.toml"));
    assert_eq!(load(&options).expect("complete").config.server.threads, 3);
    options.variables = variables(&[("MODEN_GATEWAY__SERVER__THREADS", "4")]);
    assert_eq!(load(&options).expect("complete").config.server.threads, 4);
}

#[test]
fn tells_the_file_that_a_fault_stands_in() {
    let folder = folder(&[
        (
            "base.toml",
            "[upstream]\nhold_body = \"x\"\n[server]\nthreadz = 1",
        ),
        (
            "sandbox.toml",
            &format!("[server]\ndrain_timeout = \"x\"{CREDENTIAL}"),
        ),
    ]);
    let faults = load(&LoadOptions {
        paths: vec![folder.path().into()],
        environment: Some("sandbox".into()),
        variables: variables(&[("MODEN_GATEWAY__LOG__LEVEL", "loud")]),
        embedded_only: false,
    })
    .expect_err("faults");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let told: Vec<_> = faults
        .0
        .iter()
        .map(|fault| (fault.origin.clone(), fault.key.as_str()))
        .collect();
    let mut expected = vec![
        ("MODEN_GATEWAY__LOG__LEVEL".to_owned(), "log.level"),
        (file("base.toml"), "server.threadz"),
        (file("base.toml"), "upstream.hold_body"),
        (file("sandbox.toml"), "server.drain_timeout"),
    ];
    expected.sort();
    assert_eq!(told, expected);
}

#[test]
fn tells_the_file_of_a_source_and_not_the_last_one_of_all() {
    let credential = "app_id = { env = \"APP_ID\" }\nsecret = { file = \"no-path\" }";
    let folder = folder(&[
        (
            "base.toml",
            &format!("[environments.sandbox]\n{credential}"),
        ),
        (
            "sandbox.toml",
            "[environments.sandbox]\n[log]\nlevel = \"debug\"",
        ),
    ]);
    let faults = load(&LoadOptions {
        paths: vec![folder.path().into()],
        environment: Some("sandbox".into()),
        ..LoadOptions::default()
    });
    let faults = faults.expect_err("no path").0;
    let base = folder.path().join("base.toml").display().to_string();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].origin, base, "{faults:?}");
}

#[test]
fn wants_one_of_the_two_files_of_a_folder() {
    let with = |files: &[(&str, &str)]| {
        let folder = folder(files);
        load(&LoadOptions {
            paths: vec![folder.path().into()],
            environment: Some("sandbox".into()),
            ..LoadOptions::default()
        })
    };
    assert_eq!(
        with(&[("base.toml", CREDENTIAL)])
            .expect("complete")
            .warnings
            .len(),
        1
    );
    assert!(
        with(&[("sandbox.toml", CREDENTIAL)])
            .expect("complete")
            .warnings
            .is_empty()
    );
    let text = with(&[("production.toml", "")])
        .expect_err("neither")
        .to_string();
    assert!(
        text.contains("holds neither base.toml nor sandbox.toml"),
        "{text}"
    );
}

#[test]
fn refuses_an_environment_file_that_names_another_environment() {
    let other = format!("environment = \"production\"{CREDENTIAL}");
    let folder = folder(&[("sandbox.toml", &other)]);
    let result = load(&LoadOptions {
        paths: vec![folder.path().into()],
        environment: Some("sandbox".into()),
        ..LoadOptions::default()
    });
    message(result, "environment");
}

#[test]
fn tells_a_missing_file_and_one_that_is_no_text() {
    let folder = folder(&[]);
    fs::write(folder.path().join("binary.toml"), [0xff, 0xfe]).expect("a file can be written");
    for name in ["missing.toml", "binary.toml"] {
        // The environment may be named in the very file, so that its absence is no fault.
        let faults = load(&LoadOptions {
            paths: vec![folder.path().join(name)],
            ..LoadOptions::default()
        })
        .expect_err("unreadable");
        assert_eq!(faults.0.len(), 1, "{faults}");
        assert!(faults.to_string().contains("could not be read"), "{faults}");
    }
}

#[test]
fn tells_where_toml_is_broken_and_not_what_stands_there() {
    for broken in [
        format!("[environments.sandbox]\nsecret = {MARKER}"),
        format!("[environments.sandbox]\nsecret = \"{MARKER}"),
        format!("[environments.sandbox]\nsecret = \"{MARKER}\" \"{MARKER}\""),
        format!("a = 1\na = \"{MARKER}\""),
    ] {
        let text = load_text(&broken).expect_err("broken").to_string();
        assert!(
            text.contains("is no valid TOML at line 2, column "),
            "{text}"
        );
        assert!(!text.contains(MARKER), "{text}");
    }
    let text = load_text("[server]\nthreads = 99999999999999999999").expect_err("broken");
    assert!(text.to_string().contains("number out of range"), "{text}");
}

#[test]
fn reads_variables_by_the_type_of_their_key() {
    let config = load_variables(&[
        ("MODEN_GATEWAY__SERVER__THREADS", "2"),
        ("MODEN_GATEWAY__ENVIRONMENTS__PRODUCTION__ARMED", "true"),
        ("MODEN_GATEWAY__UPSTREAM__CA_FILE", "00123"),
        ("MODEN_GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ("MODEN_GATEWAY_SERVICE_HOST", "10.0.0.1"),
    ])
    .expect("complete")
    .config;
    assert_eq!(config.server.threads, 2);
    assert!(config.environments.production.armed);
    assert_eq!(config.upstream.ca_file.as_deref(), Some(Path::new("00123")));
}

#[test]
fn refuses_variables_that_fit_no_key() {
    for (name, value, key) in [
        ("MODEN_GATEWAY__SERVER__THREADS", "two", "server.threads"),
        ("MODEN_GATEWAY__SERVER__THREADS", "", "server.threads"),
        ("MODEN_GATEWAY__SERVER__THREAD", "2", "server.thread"),
        ("MODEN_GATEWAY__SERVER", "2", "server"),
        ("MODEN_GATEWAY__SERVERS__THREADS", "2", "servers"),
        (
            "MODEN_GATEWAY__ENVIRONMENTS__PRODUCTION__ARMED",
            "yes",
            "environments.production.armed",
        ),
        (
            "MODEN_GATEWAY__ENVIRONMENTS__PRODUCTION__ARMED",
            "1",
            "environments.production.armed",
        ),
        (
            "MODEN_GATEWAY__ENVIRONMENTS__PRODUCTION__SECRET",
            MARKER,
            "environments.production.secret",
        ),
        ("MODEN_GATEWAY__", "2", ""),
        ("MODEN_GATEWAY__server__threads", "2", ""),
    ] {
        let faults = load_variables(&[(name, value)]).expect_err(name).0;
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(
            (faults[0].origin.as_str(), faults[0].key.as_str()),
            (name, key)
        );
        assert!(!faults[0].message.contains(MARKER), "{faults:?}");
    }
}

#[test]
fn tells_both_of_two_variables_that_contradict_each_other() {
    let result = load_variables(&[
        ("MODEN_GATEWAY__SERVER", "2"),
        ("MODEN_GATEWAY__SERVER__THREADS", "two"),
    ]);
    assert_eq!(keys(result), ["server", "server.threads"]);
}

#[test]
fn a_breaker_that_is_off_is_not_turned_on_by_one_of_its_keys() {
    let off = "MODEN_GATEWAY__UPSTREAM__BREAKER";
    let failures = "MODEN_GATEWAY__UPSTREAM__BREAKER__FAILURES";
    let open_for = "MODEN_GATEWAY__UPSTREAM__BREAKER__OPEN_FOR";
    let told = |result: Result<Loaded, ConfigFaults>, by: &str| {
        let faults = result.expect_err("a contradiction").0;
        let told: Vec<_> = faults
            .iter()
            .map(|fault| (fault.origin.as_str(), fault.key.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (failures, "upstream.breaker.failures"),
                (open_for, "upstream.breaker.open_for")
            ]
        );
        assert!(
            faults.iter().all(|fault| fault.message.contains(by)),
            "{faults:?}"
        );
    };
    let keys = [(open_for, "1m"), (failures, "3")];
    let both = [keys[0], (off, "off"), keys[1]];
    told(load_variables(&both), off);

    let folder = folder(&[(
        "gateway.toml",
        &format!("[upstream]\nbreaker = \"off\"{CREDENTIAL}"),
    )]);
    let file = folder.path().join("gateway.toml");
    let over = |given: &[(&str, &str)]| {
        load(&LoadOptions {
            paths: vec![file.clone()],
            environment: Some("sandbox".into()),
            variables: variables(given),
            ..LoadOptions::default()
        })
    };
    told(over(&keys), &file.display().to_string());
    told(over(&both), off);
    assert!(over(&[(off, "off")]).is_ok());
}

#[test]
fn a_later_file_may_turn_a_breaker_on_that_an_earlier_one_turns_off() {
    let base = format!("[upstream]\nbreaker = \"off\"{CREDENTIAL}");
    let later = "[upstream]\nbreaker = { failures = 3 }";
    let folder = folder(&[("base.toml", &base), ("sandbox.toml", later)]);
    let loaded = load(&LoadOptions {
        paths: vec![folder.path().into()],
        environment: Some("sandbox".into()),
        ..LoadOptions::default()
    });
    let breaker = loaded.expect("complete").config.upstream.breaker;
    assert!(matches!(breaker, BreakerConfig::On(settings) if settings.failures == 3));
}

#[test]
fn tells_variables_whose_prefix_is_misspelt() {
    for (name, key, right) in [
        (
            "MODEN_GATEWAY_UPSTREAM__BREAKER",
            "upstream.breaker",
            "MODEN_GATEWAY__UPSTREAM__BREAKER",
        ),
        (
            "MODEN_GATEWAY_SERVER__THREADS",
            "server.threads",
            "MODEN_GATEWAY__SERVER__THREADS",
        ),
        (
            "MODEN_GATEWAY_ACCESS_LOG__OUTPUT",
            "access_log.output",
            "MODEN_GATEWAY__ACCESS_LOG__OUTPUT",
        ),
        (
            "MODEN_GATEWAY_ENVIRONMENT",
            "environment",
            "MODEN_GATEWAY__ENVIRONMENT",
        ),
        (
            "moden_gateway_server__threads",
            "server.threads",
            "MODEN_GATEWAY__SERVER__THREADS",
        ),
        ("moden_gateway__x", "", "upper case"),
        ("Moden_Gateway__SERVER__THREADS", "", "upper case"),
    ] {
        let faults = load_variables(&[(name, MARKER)]).expect_err(name).0;
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(
            (faults[0].origin.as_str(), faults[0].key.as_str()),
            (name, key)
        );
        let message = &faults[0].message;
        assert!(message.contains(right), "{message}");
        assert!(!message.contains(MARKER), "{message}");
    }
}

/// Those of services called moden-gateway, moden-gateway-admin and so on, and what is nobody's.
#[test]
fn leaves_the_variables_alone_that_kubernetes_makes() {
    let own = [
        ("MODEN_GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ("MODEN_GATEWAY_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("MODEN_GATEWAY_PORT_8080_TCP_PROTO", "tcp"),
        ("MODEN_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("MODEN_GATEWAY_SERVICE_PORT_HTTP", "8080"),
        ("MODEN_GATEWAY_ADMIN_PORT", "tcp://10.0.0.1:9090"),
        ("MODEN_GATEWAY_ADMIN_SERVICE_HOST", "10.0.0.1"),
        ("MODEN_GATEWAY_SERVER_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("MODEN_GATEWAY", "1"),
        ("MODEN_GATEWAY_OTHER__THING", "1"),
        ("MODEN_GATEWAYS__SERVER", "1"),
    ];
    assert!(load_variables(&own).is_ok());
}

/// A table cannot be written into a variable, however much it looks like one.
#[test]
fn names_a_variable_that_can_be_set_where_a_table_was_tried() {
    for (name, value, right) in [
        (
            "MODEN_GATEWAY__UPSTREAM__BREAKER",
            "{failures=3}",
            "MODEN_GATEWAY__UPSTREAM__BREAKER__FAILURES",
        ),
        (
            "MODEN_GATEWAY__UPSTREAM__BREAKER",
            "OFF",
            "or \"off\", found another string",
        ),
        (
            "MODEN_GATEWAY__ENVIRONMENTS__SANDBOX__APP_ID",
            "{ file = \"/a\" }",
            "MODEN_GATEWAY__ENVIRONMENTS__SANDBOX__APP_ID__FILE",
        ),
        (
            "MODEN_GATEWAY__SERVER",
            "2",
            "MODEN_GATEWAY__SERVER__THREADS",
        ),
    ] {
        let faults = load_variables(&[(name, value)]).expect_err(name).0;
        assert_eq!(faults.len(), 1, "{faults:?}");
        let message = &faults[0].message;
        assert!(message.contains(right), "{message}");
    }
    let file = load_with_credential("[upstream]\nbreaker = \"on\"");
    assert!(!message(file, "upstream.breaker").contains("MODEN_GATEWAY"));
}

#[test]
fn keeps_variables_out_of_lists() {
    for (name, key) in [
        ("MODEN_GATEWAY__LISTENERS", "listeners"),
        ("MODEN_GATEWAY__LISTENERS__0__ADDRESS", "listeners"),
        ("MODEN_GATEWAY__ROUTES__0", "routes"),
        ("MODEN_GATEWAY__HEADERS__REMOVE", "headers.remove"),
        (
            "MODEN_GATEWAY__ENVIRONMENTS__PRODUCTION__SECRET__COMMAND",
            "environments.production.secret.command",
        ),
    ] {
        let message = message(load_variables(&[(name, MARKER)]), key);
        assert!(message.contains("lists are set in files only"), "{message}");
    }
    let bracketed = load_variables(&[("MODEN_GATEWAY__LISTENERS[0]__ALLOW_ANONYMOUS", "true")]);
    let message = message(bracketed, "listeners[0]");
    assert!(message.starts_with("is an unknown key"), "{message}");
}
