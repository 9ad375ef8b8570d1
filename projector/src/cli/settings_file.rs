//! Whether the settings file of the package, `packaging/projector.env`, is what the program takes.

use clap::CommandFactory as _;

use super::Arguments;

const FILE: &str = include_str!("../../../packaging/projector.env");

#[test]
fn every_setting_is_explained_and_a_default_that_is_shown_is_the_default() {
    let command = Arguments::command();
    let settings = command.get_arguments().filter_map(|one| Some((one.get_env()?.to_str()?, one)));
    let mut known = Vec::new();
    for (name, argument) in settings {
        known.push(name.to_owned());
        let line = FILE.lines().position(|line| line.starts_with(&format!("#{name}=")));
        let line = line.unwrap_or_else(|| panic!("{name} is not in projector.env"));
        let above: Vec<&str> = FILE.lines().take(line).collect();
        let explained: Vec<&str> =
            above.iter().rev().take_while(|line| line.starts_with("# ")).copied().collect();
        assert!(!explained.is_empty(), "{name} is not explained");
        let (_, shown) = FILE.lines().nth(line).unwrap().split_once('=').unwrap();
        match argument.get_default_values().first().and_then(|default| default.to_str()) {
            Some(default) => assert_eq!(shown, default, "{name}"),
            None => assert!(
                explained.iter().any(|line| line.contains("Default:")),
                "{name}: say what is so without it"
            ),
        }
    }
    assert!(known.len() >= 9, "{known:?}");
    for line in FILE.lines() {
        let name = line.strip_prefix('#').filter(|line| !line.starts_with(' ') && !line.is_empty());
        let name = name.and_then(|line| line.split('=').next());
        if let Some(name) = name {
            assert!(known.iter().any(|one| one == name), "{name} is no setting");
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{line} is in force");
        }
    }
}
