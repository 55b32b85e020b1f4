//! What is refused, and in which words.

use portolan_config::{Config, Environment};

/// The mistakes of `text`, one per line.
fn mistakes(text: &str) -> String {
    let environment = Environment { host_name: "edge-1".into(), ..Environment::default() };
    match Config::parse(text, "p.toml", &environment) {
        Ok(_) => "none".to_owned(),
        Err(mistakes) => mistakes.to_string(),
    }
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
