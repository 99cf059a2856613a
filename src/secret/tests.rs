use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use super::*;

/// A value that must show up in no message.
const MARKER: &str = "s3cr3t-marker";

fn write(folder: &Path, name: &str, content: &[u8], mode: u32) -> Source {
    let path = folder.join(name);
    fs::write(&path, content).expect("a temporary file can be written");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("its mode can be set");
    Source::File(path)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

fn load(source: &Source) -> Result<Secret, SecretError> {
    source.load(FilePolicy::Refuse).map(|loaded| loaded.secret)
}

fn shell(script: &str) -> Source {
    Source::Command(vec!["/bin/sh".into(), "-c".into(), script.into()])
}

#[test]
fn drops_exactly_one_final_newline() {
    assert_eq!(check_text(b"abc"), Ok("abc"));
    assert_eq!(check_text(b"abc\n"), Ok("abc"));
    assert_eq!(check_text(b"abc\r\n"), Ok("abc"));
    assert_eq!(check_text(b" abc \n"), Ok(" abc "));
    assert_eq!(check_text(b"abc\n\n"), Err(TextFault::ControlCharacter));
    assert_eq!(check_text(b"abc\r"), Err(TextFault::ControlCharacter));
}

#[test]
fn refuses_what_is_no_secret() {
    assert_eq!(check_text(b""), Err(TextFault::Empty));
    assert_eq!(check_text(b"\r\n"), Err(TextFault::Empty));
    assert_eq!(check_text(b"a\xffb"), Err(TextFault::NotUtf8));
    assert_eq!(check_text(b"a\0b"), Err(TextFault::ControlCharacter));
    assert_eq!(
        check_text("a\u{85}b".as_bytes()),
        Err(TextFault::ControlCharacter)
    );
}

#[test]
fn accepts_the_longest_secret_with_its_newline_and_not_one_byte_more() {
    let folder = folder();
    let longest = "x".repeat(MAX_SECRET_BYTES) + "\r\n";
    let source = write(folder.path(), "longest", longest.as_bytes(), 0o600);
    assert!(load(&source).is_ok());

    let too_long = "x".repeat(MAX_SECRET_BYTES + 1);
    for text in [too_long.clone(), too_long.clone() + "\r\n", too_long + "yz"] {
        let source = write(folder.path(), "too-long", text.as_bytes(), 0o600);
        let error = load(&source).expect_err("too long");
        assert!(matches!(error, SecretError::Unusable(TextFault::TooLong)));
    }
}

#[test]
fn shows_the_secret_nowhere() {
    let secret = Secret::new(MARKER);
    assert_eq!(format!("{secret:?}"), "Secret([hidden])");
    assert_eq!(secret.expose_secret(), MARKER.as_bytes());
}

#[test]
fn compares_secrets_by_content() {
    assert_eq!(Secret::new("abc"), Secret::new("abc"));
    assert_ne!(Secret::new("abc"), Secret::new("abd"));
    assert_ne!(Secret::new("abc"), Secret::new("ab"));
    assert_ne!(Secret::new(""), Secret::new("a"));
}

#[test]
fn reads_a_file_through_a_symlink() {
    let folder = folder();
    write(folder.path(), "data", b"abc\n", 0o400);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("data", &link).expect("a link can be made");
    assert_eq!(
        load(&Source::File(link)).expect("readable"),
        Secret::new("abc")
    );
}

#[test]
fn warns_of_a_readable_file_in_the_sandbox_and_refuses_it_in_production() {
    let folder = folder();
    let source = write(folder.path(), "open", MARKER.as_bytes(), 0o644);
    let loaded = source.load(FilePolicy::Warn).expect("a warning only");
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded
            .warnings
            .iter()
            .all(|warning| warning.contains("0644"))
    );

    let error = source.load(FilePolicy::Refuse).expect_err("refused");
    assert!(matches!(
        error,
        SecretError::ReadableByOthers { mode: 0o644 }
    ));
    assert!(!format!("{error} {error:?}").contains(MARKER));
}

#[test]
fn accepts_a_file_that_only_its_own_group_can_read() {
    let folder = folder();
    let source = write(folder.path(), "group", b"abc", 0o640);
    let loaded = source.load(FilePolicy::Refuse).expect("the group is ours");
    assert!(loaded.warnings.is_empty());
}

#[test]
fn refuses_folders_pipes_and_devices_without_waiting_for_them() {
    let folder = folder();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(
        made.is_ok_and(|status| status.success()),
        "mkfifo is needed here"
    );
    for path in [folder.path().to_owned(), pipe, "/dev/zero".into()] {
        let error = load(&Source::File(path)).expect_err("no file");
        assert!(matches!(error, SecretError::NotAFile), "{error}");
    }
}

#[test]
fn tells_no_place_since_the_secret_may_stand_there_by_mistake() {
    let places = [
        Source::File(format!("/{MARKER}").into()),
        Source::Env("MARKER".into()),
        Source::Credential(MARKER.into()),
        Source::Command(vec![MARKER.into()]),
        Source::Command(vec!["false".into(), MARKER.into()]),
    ];
    for place in places {
        let error = load(&place).expect_err("nothing is there");
        let text = format!("{error} {error:?}");
        assert!(!text.to_uppercase().contains("MARKER"), "{text}");
    }
}

#[test]
fn reads_an_environment_variable_verbatim() {
    // Cargo sets this one for every test; setting our own would be unsafe.
    let secret = load(&Source::Env("CARGO_PKG_NAME".into())).expect("set by cargo");
    assert_eq!(secret, Secret::new("moden-gateway"));

    let error = load(&Source::Env("MODEN_TEST_NEVER_SET".into())).expect_err("unset");
    assert!(matches!(error, SecretError::VariableUnset));
}

#[test]
fn reads_a_systemd_credential_by_name_only() {
    let folder = folder();
    write(folder.path(), "moden-secret", b"abc\n", 0o440);
    let bytes = systemd::load_from(folder.path(), "moden-secret").expect("readable");
    assert_eq!(check_text(&bytes), Ok("abc"));
    for name in ["../moden-secret", "", ".", "..", "a/b"] {
        let error = systemd::load_from(folder.path(), name).expect_err("no name");
        assert!(matches!(error, SecretError::Impossible(_)), "{name}");
    }
}

#[test]
fn takes_what_a_command_writes_to_stdout() {
    let secret = load(&shell("echo loud >&2; cat; echo abc")).expect("it succeeds");
    assert_eq!(secret, Secret::new("abc"));
}

#[test]
fn finds_a_command_by_path_and_runs_it_without_a_shell() {
    let source = Source::Command(vec!["echo".into(), "$HOME;".into()]);
    assert_eq!(load(&source).expect("it succeeds"), Secret::new("$HOME;"));
}

#[test]
fn refuses_a_command_that_fails_and_tells_nothing_of_its_output() {
    let script = format!("echo {MARKER}; echo {MARKER} >&2; exit 3");
    let source = shell(&script);
    let error = load(&source).expect_err("it fails");
    assert!(
        matches!(error, SecretError::CommandFailed { .. }),
        "{error}"
    );
    assert!(!format!("{error} {error:?} {source} {source:?}").contains(MARKER));
}

#[test]
fn refuses_a_command_that_is_not_there() {
    let error = load(&Source::Command(vec!["/nonexistent/vault".into()])).expect_err("missing");
    assert_eq!(error.to_string(), "the secret command could not be run");
}

#[test]
fn kills_a_command_that_does_not_end() {
    for script in [
        "sleep 60",
        "echo abc; exec >&-; sleep 60",
        "sleep 60 & wait",
    ] {
        let Source::Command(arguments) = shell(script) else {
            unreachable!()
        };
        let begun = Instant::now();
        let error = command::load(&arguments, Duration::from_millis(200)).expect_err("too slow");
        assert!(
            matches!(error, SecretError::CommandTimedOut { .. }),
            "{error}"
        );
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "it was waited for"
        );
    }
}

#[test]
fn kills_what_a_command_left_running_on_its_stdout() {
    let folder = folder();
    let path = folder.path().join("pid");
    let script = format!("sleep 60 & echo $! > {}", path.display());
    let Source::Command(arguments) = shell(&script) else {
        unreachable!()
    };
    let error = command::load(&arguments, Duration::from_secs(2)).expect_err("stdout is open");
    assert!(
        matches!(error, SecretError::CommandTimedOut { .. }),
        "{error}"
    );

    let pid = fs::read_to_string(path).expect("the script ran");
    let stat = format!("/proc/{}/stat", pid.trim());
    let give_up = Instant::now() + Duration::from_secs(10);
    // Gone, or dead and waiting for init to notice.
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < give_up, "it is still running");
        std::thread::yield_now();
    }
}

#[test]
fn stops_reading_a_command_that_writes_without_end() {
    let error = load(&shell("yes")).expect_err("endless");
    // Either it dies of the closed pipe first, or its output is seen to be too long.
    assert!(
        matches!(
            error,
            SecretError::CommandFailed { .. } | SecretError::Unusable(TextFault::TooLong)
        ),
        "{error}"
    );
}

#[test]
fn judges_a_place_by_its_name_without_showing_it() {
    let possible = [
        Source::File("/run/secrets/moden".into()),
        Source::File("./moden".into()),
        Source::File("../secrets/moden".into()),
        Source::Env("MODEN_SECRET_2".into()),
        Source::Credential("moden-secret".into()),
        Source::Command(vec!["/usr/bin/vault".into(), "read".into()]),
        Source::Command(vec!["vault".into()]),
    ];
    for source in possible {
        assert_eq!(source.check(), Ok(()), "{source}");
    }
    let impossible = [
        Source::File(MARKER.into()),
        Source::File(format!("{MARKER}/{MARKER}==").into()),
        Source::Env(MARKER.into()),
        Source::Env(String::new()),
        Source::Env("2ND".into()),
        Source::Credential("a/b".into()),
        Source::Command(Vec::new()),
        Source::Command(vec![String::new()]),
        Source::Command(vec!["./vault".into()]),
        Source::Command(vec!["vault".into(), "a\0b".into()]),
    ];
    for source in impossible {
        let error = source.check().expect_err("impossible").to_string();
        assert!(error.starts_with("expected "), "{error}");
        assert!(!error.contains(MARKER), "{error}");
    }
}
