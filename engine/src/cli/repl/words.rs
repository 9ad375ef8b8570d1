//! A line as words, as a shell would have them, and what it may be completed to. Pure.

/// Words of a line: separated by blanks, or in quotes; a backslash takes the next character as it is.
///
/// # Errors
/// A quote is not closed.
pub fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(end), letter) if letter == end => quote = None,
            (Some('\''), letter) => word.get_or_insert_default().push(letter),
            (_, '\\') => {
                let next = letters.next().ok_or("the line ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed");
    }
    words.extend(word);
    Ok(words)
}

/// Where the last word of a line begins, and what of `command` it may become: commands, or their flags.
pub fn completions(command: &clap::Command, verbs: &[&str], line: &str) -> (usize, Vec<String>) {
    let begin = line
        .rfind(char::is_whitespace)
        .map_or(0, |at| at + line[at..].chars().next().map_or(0, char::len_utf8));
    let (before, word) = line.split_at(begin);
    let mut found: Vec<String> = Vec::new();
    let mut at = command;
    for (place, word) in before.split_whitespace().enumerate() {
        match at.find_subcommand(word).filter(|_| place > 0 || verbs.contains(&word)) {
            Some(below) => at = below,
            None if place == 0 => return (begin, found),
            None => break,
        }
    }
    if let Some(flag) = word.strip_prefix("--") {
        let flags = at.get_arguments().filter_map(clap::Arg::get_long);
        let fits = flags.filter(|long| long.starts_with(flag));
        found.extend(fits.map(|long| format!("--{long} ")));
    } else {
        let is_top = std::ptr::eq(at, command);
        let names = at.get_subcommands().map(clap::Command::get_name);
        let names = names.filter(|name| !is_top || verbs.contains(name));
        found.extend(names.filter(|name| name.starts_with(word)).map(|name| format!("{name} ")));
    }
    found.sort();
    (begin, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_as_a_shell_has_them() {
        let of = |line| words(line).map(|words| words.join("|"));
        assert_eq!(of("transfer  alice bob 5").as_deref(), Ok("transfer|alice|bob|5"));
        assert_eq!(of("account \"Anna Novak\"").as_deref(), Ok("account|Anna Novak"));
        assert_eq!(of("account 'a \"b\\' ''").as_deref(), Ok("account|a \"b\\|"));
        assert_eq!(of(r"account Anna\ Novak").as_deref(), Ok("account|Anna Novak"));
        assert_eq!(of("a\"b c\"d").as_deref(), Ok("ab cd"));
        assert_eq!(words("  "), Ok(Vec::new()));
        assert!(words("account \"Anna").is_err() && words("a\\").is_err());
    }

    #[test]
    fn commands_and_their_flags_are_completed() {
        let command = clap::Command::new("x")
            .subcommand(clap::Command::new("transfer").arg(clap::Arg::new("code").long("code")))
            .subcommand(clap::Command::new("account").subcommand(clap::Command::new("create")))
            .subcommand(clap::Command::new("restore"));
        let verbs = ["transfer", "account"];
        let of = |line: &str| completions(&command, &verbs, line);
        assert_eq!(of("tr"), (0, vec!["transfer ".to_owned()]));
        assert_eq!(of("").1.len(), 2);
        assert_eq!(of("restore --"), (8, vec![]), "no verb of this");
        assert_eq!(of("transfer a b 5 --c"), (15, vec!["--code ".to_owned()]));
        assert_eq!(of("account c"), (8, vec!["create ".to_owned()]));
        assert_eq!(of("é x"), (3, vec![]));
    }
}
