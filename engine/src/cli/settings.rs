//! `settings`: a settings file with every setting in it, made of the flags' own definitions.

use std::fmt::Write as _;

use serde_json::Value;
use walengine_net::cli;

use crate::config::ServeOptions;
use crate::fatal::{Fatal, Reason};

/// Letters of a line of explanation, without what begins it.
const WIDTH: usize = 96;
/// What a setting looks like whose default is no value that could be written, by the name of its value.
const EXAMPLES: [(&str, &str); 9] = [
    ("N", "4"),
    ("MIB", "4096"),
    ("BOOL", "false"),
    ("DIR", r#""/etc/walengine/tls""#),
    ("FILE", r#""/etc/walengine/FILE""#),
    ("NAME,..", r#"["bank-1.example"]"#),
    ("HOST:PORT", r#""10.0.0.1:7450""#),
    ("HOST[:PORT]", r#""bank-1.example""#),
    ("HOST:PORT,..", r#"["10.0.0.2:7451", "10.0.0.3:7451"]"#),
];
/// Better ones, by the setting.
const OWN_EXAMPLES: [(&str, &str); 6] = [
    ("http", r#""10.0.0.1:7480""#),
    ("peer_listen", r#""10.0.0.1:7451""#),
    ("advertise_peer", r#""bank-1.example:7451""#),
    ("expect", "3"),
    ("policy", r#""/etc/walengine/tls/policy.toml""#),
    ("key_file", r#""/etc/walengine/tls/gossip.key""#),
];

/// Print a settings file that explains every setting
///
/// For `walengine --config FILE`. Settings that are given here, as flags or in the environment, are in force in
/// it. All others are comments, with their default or an example.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  walengine settings --data /var/lib/walengine >walengine.toml")]
pub struct Arguments {
    #[command(flatten)]
    given: ServeOptions,
}

/// Prints the file.
pub fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let given = serde_json::to_value(&arguments.given).map_err(|error| {
        Fatal::new(Reason::Usage, format!("a setting can't be written: {error}"))
    })?;
    cli::show(&file(&given))
}

/// The file, in which `given` are in force.
fn file(given: &Value) -> String {
    let mut text = "# Settings of walengine. Flags and environment take precedence. A line that begins with # is not in force:\n\
                    # it has the default, or an example where that depends on something.\n"
        .to_owned();
    for setting in settings() {
        let Setting { name, help, shown } = &setting;
        text.push('\n');
        for line in wrapped(help) {
            let _ = writeln!(text, "# {line}"); // to memory
        }
        let _ = match given.get(name).filter(|value| !value.is_null()) {
            // What serde writes as JSON of numbers, words and lists of them is TOML, too.
            Some(value) => writeln!(text, "{name} = {value}"),
            None => writeln!(text, "#{name} = {shown}"),
        };
    }
    text
}

/// A setting as the file shows it.
struct Setting {
    name: String,
    help: String,
    /// Its default, or an example.
    shown: String,
}

fn settings() -> Vec<Setting> {
    let command = <ServeOptions as clap::Args>::augment_args(clap::Command::new("settings"));
    let arguments = command.get_arguments().filter(|one| one.get_long().is_some());
    let settings = arguments.map(|argument| {
        let name = argument.get_id().to_string();
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let kind = argument.get_value_names().and_then(<[_]>::first);
        let kind = kind.map(ToString::to_string).unwrap_or_default();
        let shown = default_of(&help).and_then(|default| as_value(&kind, default));
        let shown = shown.or_else(|| example(&name, &kind)).unwrap_or_default();
        Setting { name, help, shown }
    });
    settings.collect()
}

/// What its help says that a setting is without being set.
fn default_of(help: &str) -> Option<&str> {
    help.rsplit_once("[default: ")?.1.strip_suffix(']')
}

/// A default as the file has it, if it is a value and not a description of one.
fn as_value(kind: &str, default: &str) -> Option<String> {
    match kind {
        "FORMAT" | "LEVEL" | "DIR" | "HOST:PORT" if !default.contains(' ') && default != "none" => {
            Some(format!("{default:?}"))
        }
        _ => default.parse::<u64>().ok().map(|number| number.to_string()),
    }
}

fn example(name: &str, kind: &str) -> Option<String> {
    let own = OWN_EXAMPLES.iter().find(|(of, _)| *of == name);
    let (_, example) = own.or_else(|| EXAMPLES.iter().find(|(of, _)| *of == kind))?;
    Some((*example).to_owned())
}

/// A text in lines of at most [`WIDTH`] letters; words are not cut.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn given(options: &ServeOptions) -> Value {
        serde_json::to_value(options).unwrap()
    }

    fn read(text: &str) -> ServeOptions {
        toml::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn every_setting_is_explained_and_none_is_in_force() {
        let text = file(&given(&ServeOptions::default()));
        assert_eq!(given(&read(&text)), given(&ServeOptions::default()));
        // All that the file may have, by what reads it.
        for name in given(&ServeOptions::default()).as_object().unwrap().keys() {
            let lines = text.lines().filter(|line| line.starts_with(&format!("#{name} = ")));
            assert_eq!(lines.count(), 1, "{name} is not in\n{text}");
        }
        for setting in settings() {
            let name = setting.name;
            assert!(setting.help.len() > 20, "{name} is not explained");
            assert!(!setting.shown.is_empty(), "{name}: say in EXAMPLES what it looks like");
            read(&format!("{name} = {}", setting.shown));
        }
    }

    #[test]
    fn a_default_that_is_shown_is_the_default() {
        let resolved = |options: ServeOptions| format!("{:?}", options.resolve().unwrap());
        let resolved = |text: &str| {
            // What the help shows with ./ is the same directory.
            resolved(read(text)).replace("\"./walengine-data\"", "\"walengine-data\"")
        };
        let mut compared = 0;
        for Setting { name, help, shown } in settings() {
            let is_default = default_of(&help).is_some_and(|default| shown.contains(default));
            if is_default || shown == "false" {
                assert_eq!(resolved(&format!("{name} = {shown}")), resolved(""), "{name}");
                compared += 1;
            }
        }
        assert!(compared >= 13, "only {compared} settings have a default to compare");
        // Those of a node in a cluster.
        let cluster = "peer_listen = \"127.0.0.1:7451\"\n";
        for Setting { name, help, shown } in settings() {
            if default_of(&help).is_some_and(|default| shown.contains(default)) {
                let with = format!("{cluster}{name} = {shown}");
                assert_eq!(resolved(&with), resolved(cluster), "{name}");
            }
        }
    }

    #[test]
    fn what_is_given_is_in_force() {
        let options = ServeOptions {
            data: Some("/var/lib/wal\"engine".into()),
            cores: Some(2),
            join: Some(vec!["10.0.0.2:7451".to_owned(), "10.0.0.3:7451".to_owned()]),
            insecure: Some(true),
            log_format: Some(walengine_net::cli::LogFormat::Json),
            ..ServeOptions::default()
        };
        let text = file(&given(&options));
        assert_eq!(given(&read(&text)), given(&options), "{text}");
        let _: Config = ServeOptions { join: None, ..read(&text) }.resolve().unwrap();
    }
}
