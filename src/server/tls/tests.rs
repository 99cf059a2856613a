use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use prometheus::{IntCounter, IntGauge};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;
use crate::telemetry::metrics::HandshakeFailures;

/// A certificate and its key, as PEM.
struct Pair {
    certificate: String,
    key: String,
}

fn pair_until(year: i32) -> Pair {
    pair_between(1975, year)
}

fn pair_between(first_year: i32, last_year: i32) -> Pair {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.not_before = date_time_ymd(first_year, 1, 1);
    params.not_after = date_time_ymd(last_year, 12, 31);
    let key = KeyPair::generate().expect("a key");
    Pair {
        certificate: params.self_signed(&key).expect("a certificate").pem(),
        key: key.serialize_pem(),
    }
}

fn pair() -> Pair {
    pair_until(4000)
}

fn write(folder: &Path, pair: &Pair) {
    let key = folder.join("tls.key");
    fs::write(folder.join("tls.crt"), &pair.certificate).expect("it can be written");
    fs::write(&key, &pair.key).expect("it can be written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("it is ours");
}

fn files(folder: &Path) -> ListenerTls {
    ListenerTls {
        certificate: folder.join("tls.crt"),
        key: folder.join("tls.key"),
    }
}

fn metrics() -> ListenerTlsMetrics {
    let counter = || IntCounter::new("a", "b").expect("a name");
    ListenerTlsMetrics {
        expiry: IntGauge::new("a", "b").expect("a name"),
        renewed: counter(),
        refused: counter(),
        failures: HandshakeFailures {
            timeout: counter(),
            closed: counter(),
            protocol: counter(),
        },
    }
}

/// A listener whose files are in this folder.
fn renewal(folder: &Path) -> Renewal {
    let files = files(folder);
    let loaded = LoadedCertificate::load(&files, FilePolicy::Refuse).expect("it can be used");
    let tls = Tls::new(&loaded, Duration::from_secs(5), metrics());
    Renewal::new(
        "listeners[0]".to_owned(),
        tls,
        files,
        FilePolicy::Refuse,
        &loaded,
    )
}

fn counts(renewal: &Renewal) -> (u64, u64) {
    let metrics = &renewal.tls.metrics;
    (metrics.renewed.get(), metrics.refused.get())
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn what_does_not_change_is_not_taken_up_again() {
    let folder = folder();
    write(folder.path(), &pair());
    let mut renewal = renewal(folder.path());
    for _ in 0..3 {
        renewal.look();
    }
    assert_eq!(counts(&renewal), (0, 0));
}

#[test]
fn another_pair_is_taken_up_at_the_next_look() {
    let folder = folder();
    write(folder.path(), &pair_until(3000));
    let mut renewal = renewal(folder.path());
    let before = (
        renewal.tls.metrics.expiry.get(),
        renewal.tls.config.load_full(),
    );
    write(folder.path(), &pair_until(4000));
    renewal.look();
    renewal.look();
    assert_eq!(counts(&renewal), (1, 0));
    assert!(renewal.tls.metrics.expiry.get() > before.0);
    assert!(!Arc::ptr_eq(&before.1, &renewal.tls.config.load_full()));
}

#[test]
fn a_pair_that_comes_in_two_pieces_is_taken_up_without_a_complaint() {
    let folder = folder();
    let (old, new) = (pair(), pair());
    write(folder.path(), &old);
    let mut renewal = renewal(folder.path());
    fs::write(folder.path().join("tls.crt"), &new.certificate).expect("it can be written");
    for _ in 1..LOOKS_FOR_A_PAIR {
        renewal.look();
    }
    assert_eq!(counts(&renewal), (0, 0), "the key may still come");
    write(folder.path(), &new);
    renewal.look();
    assert_eq!(counts(&renewal), (1, 0));
}

#[test]
fn a_pair_whose_other_half_never_comes_is_refused_as_a_pair() {
    let folder = folder();
    write(folder.path(), &pair());
    let mut renewal = renewal(folder.path());
    fs::write(folder.path().join("tls.crt"), pair().certificate).expect("it can be written");
    for _ in 1..LOOKS_FOR_A_PAIR {
        renewal.look();
    }
    assert_eq!(counts(&renewal), (0, 0));
    for _ in 0..3 {
        renewal.look();
    }
    assert_eq!(counts(&renewal), (0, 1));
    let errors = LoadedCertificate::load(&files(folder.path()), FilePolicy::Refuse);
    let errors = errors.expect_err("they do not belong together");
    assert_eq!(
        errors[0].key(),
        "tls",
        "nobody knows which of them is wrong"
    );
}

#[test]
fn what_cannot_be_used_is_refused_once_and_the_old_stays() {
    let folder = folder();
    let old = pair();
    write(folder.path(), &old);
    let mut renewal = renewal(folder.path());
    let before = renewal.tls.config.load_full();
    let other = pair();
    let refused = [
        Pair {
            certificate: other.certificate.clone(),
            key: old.key.clone(),
        },
        Pair {
            certificate: String::new(),
            key: String::new(),
        },
        Pair {
            certificate: "garbage".to_owned(),
            key: other.key.clone(),
        },
        pair_until(2001),
        pair_between(3000, 4000),
    ];
    for (count, pair) in (1..).zip(&refused) {
        write(folder.path(), pair);
        for _ in 0..2 * LOOKS_FOR_A_PAIR {
            renewal.look();
        }
        assert_eq!(counts(&renewal), (0, count));
    }
    fs::remove_file(folder.path().join("tls.key")).expect("it is there");
    for _ in 0..4 {
        renewal.look();
    }
    assert_eq!(counts(&renewal), (0, 6));
    assert!(Arc::ptr_eq(&before, &renewal.tls.config.load_full()));
    write(folder.path(), &old);
    renewal.look();
    assert_eq!(counts(&renewal), (0, 6), "it is in use already");
    write(folder.path(), &refused[1]);
    renewal.look();
    renewal.look();
    assert_eq!(counts(&renewal), (0, 7), "a new change is told anew");
    write(folder.path(), &other);
    renewal.look();
    assert_eq!(counts(&renewal), (1, 7));
}

#[test]
fn the_symlinks_of_a_mounted_secret_are_followed() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    for (name, pair) in [("..1", pair()), ("..2", pair())] {
        fs::create_dir(path(name)).expect("it can be made");
        write(&path(name), &pair);
    }
    symlink("..1", path("..data")).expect("it can be made");
    symlink("..data/tls.crt", path("tls.crt")).expect("it can be made");
    symlink("..data/tls.key", path("tls.key")).expect("it can be made");
    let mut renewal = renewal(folder.path());
    symlink("..2", path("..tmp")).expect("it can be made");
    fs::rename(path("..tmp"), path("..data")).expect("it can be replaced");
    renewal.look();
    assert_eq!(counts(&renewal), (1, 0));
}

#[test]
fn a_key_that_others_can_read_is_treated_as_other_secrets_are() {
    let folder = folder();
    write(folder.path(), &pair());
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(folder.path().join("tls.key"), open).expect("it is ours");
    let load = |policy| LoadedCertificate::load(&files(folder.path()), policy);
    let loaded = load(FilePolicy::Warn).expect("a warning only");
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].0, "tls.key");
    let errors = load(FilePolicy::Refuse).expect_err("it is refused");
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].key(), "tls.key");
}

#[test]
fn one_that_is_not_valid_yet_is_refused_until_it_is() {
    let folder = folder();
    write(folder.path(), &pair());
    let mut renewal = renewal(folder.path());
    write(folder.path(), &pair_between(3000, 4000));
    renewal.look();
    renewal.look();
    assert_eq!(counts(&renewal), (0, 1));
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    renewal.look_at(UNIX_EPOCH + year * (2999 - 1970));
    assert_eq!(counts(&renewal), (0, 1), "told once");
    renewal.look_at(UNIX_EPOCH + year * (3002 - 1970));
    assert_eq!(counts(&renewal), (1, 1), "taken up once it is valid");
}

#[test]
fn a_certificate_of_another_time_is_used_at_the_start_with_a_warning() {
    for pair in [pair_until(2001), pair_between(3000, 4000)] {
        let folder = folder();
        write(folder.path(), &pair);
        let loaded = LoadedCertificate::load(&files(folder.path()), FilePolicy::Refuse);
        let warnings = loaded.expect("better than nothing").warnings;
        assert_eq!(warnings.len(), 1);
        assert_eq!(warnings[0].0, "tls.certificate");
    }
}

#[test]
fn shows_nothing_of_the_key() {
    let folder = folder();
    let pair = pair();
    write(folder.path(), &pair);
    let renewal = renewal(folder.path());
    let loaded = LoadedCertificate::load(&files(folder.path()), FilePolicy::Refuse);
    let shown = format!("{renewal:?} {loaded:?}");
    let secret = pair.key.lines().nth(1).expect("it has lines");
    assert!(!shown.contains(secret), "{shown}");
}
