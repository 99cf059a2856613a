//! The Dockerfile and what is sent to be built.

use std::collections::BTreeMap;
use std::fs;

use super::{IMAGE, assert_understood, configuration, read, root};

/// One stage of the file.
struct Stage {
    /// The name or image behind FROM.
    base: String,
    /// What follows, each with its text.
    instructions: Vec<(String, String)>,
}

/// The stages by name; the last, which has none, is called "".
fn stages() -> BTreeMap<String, Stage> {
    const KNOWN: [&str; 9] = [
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "EXPOSE",
        "LABEL",
        "RUN",
        "USER",
        "WORKDIR",
    ];
    let file = read("deploy/Dockerfile").replace("\\\n", " ");
    let mut stages = BTreeMap::new();
    let mut name = None;
    for line in file.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (instruction, rest) = line.split_once(' ').expect("an instruction and its text");
        match instruction {
            "FROM" => {
                let (base, stage) = rest.split_once(" AS ").unwrap_or((rest, ""));
                let new = Stage {
                    base: base.to_owned(),
                    instructions: Vec::new(),
                };
                let earlier = stages.insert(stage.to_owned(), new);
                assert!(earlier.is_none(), "two stages are called {stage}");
                name = Some(stage.to_owned());
            }
            _ => {
                assert!(KNOWN.contains(&instruction), "{line}");
                let stage = name.as_ref().and_then(|name| stages.get_mut(name));
                let stage = stage.expect("FROM comes first");
                let instruction = (instruction.to_owned(), rest.trim().to_owned());
                stage.instructions.push(instruction);
            }
        }
    }
    stages
}

/// The instructions of a stage after those of the stages that it stands on, down to an image.
fn all(stages: &BTreeMap<String, Stage>, name: &str) -> (String, Vec<(String, String)>) {
    let stage = &stages[name];
    let (image, mut instructions) = match stages.contains_key(&stage.base) {
        true => all(stages, &stage.base),
        false => (stage.base.clone(), Vec::new()),
    };
    instructions.extend(stage.instructions.iter().cloned());
    (image, instructions)
}

/// The texts of all instructions of a kind.
fn of_kind<'a>(instructions: &'a [(String, String)], kind: &str) -> Vec<&'a str> {
    let matching = instructions.iter().filter(|(name, _)| name == kind);
    matching.map(|(_, text)| text.as_str()).collect()
}

#[test]
fn the_image_is_the_program_and_nothing_else() {
    let stages = stages();
    for name in ["binary", ""] {
        let (image, instructions) = all(&stages, name);
        assert_eq!(image, "scratch", "{name}");
        assert!(of_kind(&instructions, "RUN").is_empty());
        let copies = of_kind(&instructions, "COPY");
        assert!(
            copies.len() == 1 && copies[0].ends_with(" /moden-gateway"),
            "{copies:?}"
        );
    }
}

/// A static glibc would load libraries for these at run time after all; docs/decisions/0009.
#[test]
fn the_program_asks_no_name_service_of_the_c_library() {
    let program = fs::read(env!("CARGO_BIN_EXE_moden-gateway")).expect("it was built");
    let program = String::from_utf8_lossy(&program);
    // One that is called, to see that a name would be found.
    assert!(program.contains("getsockname"));
    for function in [
        "getaddrinfo",
        "getnameinfo",
        "gethostby",
        "getpwnam",
        "getpwuid",
        "getgrnam",
        "getgrgid",
    ] {
        assert!(!program.contains(function), "{function}");
    }
}

#[test]
fn the_stage_binary_wants_no_registry_and_what_the_recipe_builds() {
    let stages = stages();
    let (_, instructions) = all(&stages, "binary");
    assert_eq!(of_kind(&instructions, "COPY"), ["${BINARY} /moden-gateway"]);
    let arguments = of_kind(&instructions, "ARG");
    let binary = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix("BINARY="))
        .expect("a place for the binary");
    let ignored = read(".dockerignore");
    assert!(
        ignored
            .lines()
            .any(|line| line.strip_prefix('!') == Some(binary))
    );
    let target = binary
        .strip_prefix("target/")
        .and_then(|path| path.strip_suffix("/release/moden-gateway"))
        .expect("where cargo puts it");
    assert!(read("justfile").contains(&format!("--target {target}")));
    assert!(read("justfile").contains("target-feature=+crt-static"));
}

#[test]
fn all_that_is_sent_to_be_built_is_there() {
    let ignored = read(".dockerignore");
    let mut patterns = ignored.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(patterns.next(), Some("*"));
    for pattern in patterns {
        let path = pattern.strip_prefix('!').expect("an exception");
        let is_built = path.starts_with("target/");
        assert!(is_built || root().join(path).exists(), "{path}");
    }
    // The compiler that is tested here is the one that builds there.
    let toolchain = read("rust-toolchain.toml");
    let build = &stages()["build"].base;
    let version = build
        .strip_prefix("docker.io/library/rust:")
        .and_then(|tag| tag.split_once('-'))
        .map(|(version, _)| version)
        .expect("an official image");
    assert!(
        toolchain.contains(&format!("channel = \"{version}.")),
        "{build}"
    );
}

#[test]
fn the_image_runs_the_gateway_as_nobody_on_its_usual_ports() {
    let stages = stages();
    for name in ["binary", ""] {
        let (_, instructions) = all(&stages, name);
        assert_eq!(
            of_kind(&instructions, "ENTRYPOINT"),
            [r#"["/moden-gateway"]"#]
        );
        let command: Vec<String> =
            serde_json::from_str(of_kind(&instructions, "CMD")[0]).expect("the exec form");
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        assert_understood(&command);

        let account = of_kind(&instructions, "USER")[0];
        let numbers: Vec<u32> = account
            .split(':')
            .map(|number| {
                number
                    .parse()
                    .expect("a number, which Kubernetes can judge")
            })
            .collect();
        assert!(numbers.len() == 2 && !numbers.contains(&0), "{account}");

        let defaults = configuration(
            "environment = \"sandbox\"\n[environments.sandbox]\n\
             app_id = { env = \"A\" }\nsecret = { env = \"B\" }\n",
        );
        let (_, port) = defaults.listeners[0]
            .address
            .to_string()
            .rsplit_once(':')
            .map(|(host, port)| (host.to_owned(), port.to_owned()))
            .expect("a port");
        let ports = format!("{port} {}", defaults.admin.address.port());
        assert_eq!(of_kind(&instructions, "EXPOSE"), [ports]);

        let labels = of_kind(&instructions, "LABEL")[0];
        let (_, version) = IMAGE.split_once(':').expect("a tag");
        assert!(
            labels.contains(&format!("image.version=\"{version}\"")),
            "{labels}"
        );
    }
}
