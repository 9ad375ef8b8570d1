//! Does RULES.md say what the code says?

use walengine_net::model::Verdict;

#[test]
fn rules_table_has_every_verdict_and_no_other() {
    let text = include_str!("../../src/ledger/RULES.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), Verdict::all().count());
    for (row, verdict) in rows.iter().zip(Verdict::all()) {
        let logged = if verdict.is_malformed() { "no" } else { "yes" };
        assert_eq!(row.len(), 5, "{verdict}");
        assert_eq!(row[0], verdict.number().to_string());
        assert_eq!(row[1], format!("`{}`", verdict.name()));
        assert!(!row[2].is_empty(), "{verdict}: kinds");
        assert_eq!(row[3], verdict.meaning());
        assert_eq!(row[4], logged, "{verdict}");
    }
}
