//! What is refused, and in which words.

use portolan_config::{Config, Environment, MISTAKES_MAX, render};

fn parse(text: &str) -> Result<Config, portolan_config::Mistakes> {
    let environment = Environment { host_name: "edge-1".into(), ..Environment::default() };
    Config::parse(text, "p.toml", &environment)
}

/// The mistakes of `text`, one per line.
fn mistakes(text: &str) -> String {
    parse(text).map_or_else(|mistakes| mistakes.to_string(), |_| "none".to_owned())
}

/// Each case of `mistakes.txt` is a file followed by what is said about it, in lines that begin with `>> `.
fn cases() -> Vec<(String, String)> {
    let (mut cases, mut text, mut said) = (Vec::new(), String::new(), Vec::new());
    for line in include_str!("mistakes.txt").lines().chain([""]) {
        match line.strip_prefix(">> ") {
            Some(mistake) => said.push(mistake),
            None if said.is_empty() => text.extend([line, "\n"]),
            None => {
                assert_eq!(line, "", "an empty line ends a case");
                cases.push((std::mem::take(&mut text), said.join("\n")));
                said.clear();
            }
        }
    }
    cases
}

#[test]
fn every_case_is_told_exactly() {
    let cases = cases();
    assert!(cases.len() > 150, "{} cases", cases.len());
    let wrong: Vec<String> = cases
        .iter()
        .filter(|(text, expected)| mistakes(text) != *expected)
        .map(|(text, expected)| format!("{text}expected: {expected}\n    told: {}\n", mistakes(text)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every case has its mistake to itself: none of them is an echo that any file would give.
#[test]
fn the_empty_file_has_no_mistakes() {
    assert_eq!(mistakes(""), "none");
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = "\
[[proxy.route]]
listener = \"wbe\"
service = \"/prod/web\"
[dns]
lisen = [\":53\"]
ttl = 5
[[proxy.listener]]
name = \"web\"
";
    assert_eq!(
        mistakes(text),
        "\
p.toml:2:12: no listener has the name \"wbe\"; did you mean \"web\"?
p.toml:3:11: service: \"/prod/web\" holds '/' beside letters, digits, '-' and '_'; the service of this id is \"web.prod\"
p.toml:5:1: unknown key \"lisen\" in [dns]; did you mean \"listen\"?
p.toml:6:7: ttl: 5 is not a time; give a unit, as in \"5s\""
    );
}

#[test]
fn columns_count_characters_and_a_byte_order_mark_counts_nothing() {
    assert!(mistakes("\u{feff}dsn = 1\n").starts_with("p.toml:1:1: "));
    assert!(
        mistakes("[proxy]\r\n\"é\u{4e2d}\" = 1\r\ntrusted_proxies = [\"é\", \"x\"]\r\n")
            .contains("p.toml:3:25: ")
    );
}

#[test]
fn many_mistakes_are_bounded_and_counted() {
    let text: String = (0..1000).map(|n| format!("key{n} = 1\n")).collect();
    let told = parse(&text).unwrap_err();
    assert_eq!((told.list().len(), told.omitted()), (MISTAKES_MAX, 1000 - MISTAKES_MAX));
    assert!(told.to_string().ends_with("800 more mistakes are not shown"));
}

#[test]
fn a_terminal_gets_a_picture_and_others_do_not() {
    let told = parse("[dns]\n\tttl = 5 # now\n").unwrap_err();
    let line = "p.toml:2:8: ttl: 5 is not a time; give a unit, as in \"5s\"\n";
    assert_eq!(render(told.list(), false), line);
    assert_eq!(render(told.list(), true), format!("{line}  |\n2 | \tttl = 5 # now\n  | \t      ^\n"));
}

#[test]
fn a_picture_of_a_long_line_shows_the_place() {
    let told = parse(&format!("[dns]\nlisten = [{}\"x\"]\n", "\"127.0.0.1:0\", ".repeat(30))).unwrap_err();
    let picture = render(told.list(), true);
    let lines: Vec<&str> = picture.lines().collect();
    let column = lines[3].find('^').unwrap();
    assert_eq!(&lines[2][column..column + 3], "\"x\"");
    assert!(lines.iter().skip(1).all(|line| line.chars().count() < 110));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let told = parse("[dns]\nttl = \"\u{7f}\u{9b}31m\"\n[node]\nname = \"\\u001b[31m\"\n").unwrap_err();
    let picture = render(told.list(), true);
    assert!(picture.chars().all(|c| c == '\n' || !c.is_control()), "{picture:?}");
}

#[test]
fn secrets_are_never_repeated() {
    for text in [
        "[[source]]\ntype = \"marathon\"\nurls = [\"http://u:hunter2@h\"]\n",
        "[[source]]\ntype = \"marathon\"\nurls = \"http://u:hunter2@h\"\n",
        "[[source]]\ntype = \"file\"\npaths = 1\nurls = [\"http://u:hunter2@h\"]\n",
        "[[source]]\ntype = \"mesos\"\nurls = [\"zk://u:hunter2@h\"]\n",
        "[[source]]\ntype = \"marathon\"\nurls = [\"http://h\"]\n[source.auth]\ntype = \"basic\"\nusername = \"u\"\npassword = \"hunter2\"\n",
        "[[source]]\ntype = \"marathon\"\nurls = [\"http://h\"]\nauth = { type = \"basic\", usrname = \"u\", password = \"hunter2\" }\n",
        "[[source]]\ntype = \"marathon\"\nurls = [\"http://h\"]\n[source.auth]\ntype = \"bearer\"\ntoken = \"hunter2\"\n",
        "[[source]]\ntype = \"marathon\"\nurls = [\"http://h\"]\n[source.auth]\ntype = \"bearer\"\ntoken_env = \"hunter2!\"\n",
        "[admin]\ntoken = \"hunter2\"\n",
        "[admin]\ntoken = hunter2\n",
        "[admin]\ntoken = \"hunter2\n",
        "[admin]\nlisten = \"http://u:hunter2@h\"\n",
    ] {
        let told = parse(text).unwrap_err();
        for shown in [render(told.list(), true), told.to_string(), format!("{told:?}")] {
            assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.toml");
    let told = |path: &std::path::Path| Config::load(path, &Environment::default()).unwrap_err().to_string();
    assert!(told(&path).contains("p.toml:1:1: cannot be read: "));
    std::fs::write(&path, b"[dns]\nttl = \"\xff\"\n").unwrap();
    assert!(told(&path).ends_with("p.toml:2:8: the octet 0xff is not UTF-8; save the file as UTF-8"));
    std::fs::write(&path, vec![b'\n'; portolan_config::FILE_LEN_MAX + 1]).unwrap();
    assert!(told(&path).contains("the file is longer than"));
    assert!(told(directory.path()).contains("cannot be read"));
}

#[test]
fn check_looks_for_files_and_variables_and_load_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.toml");
    std::fs::write(
        &path,
        "[[source]]\ntype = \"marathon\"\nurls = [\"https://h\"]\n[source.auth]\ntype = \"bearer\"\n\
         token_file = \"token\"\n[source.tls]\nca = \".\"\n[admin]\ntoken_env = \"ADMIN_TOKEN\"\n",
    )
    .unwrap();
    let mut environment = Environment::default();
    assert!(Config::load(&path, &environment).is_ok());
    let told = Config::check(&path, &environment).unwrap_err();
    let places: Vec<(usize, usize)> =
        told.list().iter().map(|mistake| (mistake.line, mistake.column)).collect();
    assert_eq!(places, [(6, 14), (8, 6), (10, 13)], "{told}");
    std::fs::write(directory.path().join("token"), "t").unwrap();
    environment.variables.insert("ADMIN_TOKEN".into(), "t".into());
    let told = Config::check(&path, &environment).unwrap_err();
    assert!(told.list().len() == 1 && told.list()[0].message.contains("is not a file"), "{told}");
}

#[test]
fn files_of_tls_to_endpoints_must_be_fit() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("empty.pem", "");
    write(
        "p.toml",
        "[proxy.upstream.tls]\nca = \"ca.pem\"\n[[proxy.service]]\nname = \"a\"\n\
         tls = { verify = false, cert = \"empty.pem\", key = \"empty.pem\" }\n\
         [[proxy.service]]\nname = \"b\"\ntls = { ca = \"empty.pem\" }\n",
    );
    let path = directory.path().join("p.toml");
    let environment = Environment::default();
    assert!(Config::load(&path, &environment).is_ok());
    for told in [Config::check(&path, &environment), Config::load_to_run(&path, &environment)] {
        let told = told.unwrap_err();
        let told: Vec<(usize, usize, &str)> = told
            .list()
            .iter()
            .map(|mistake| (mistake.line, mistake.column, mistake.message.rsplit("pem\" ").next().unwrap()))
            .collect();
        let expected =
            [(2, 6, "does not exist"), (5, 51, "holds no private key"), (8, 14, "holds no certificate")];
        assert_eq!(told, expected);
    }
}
