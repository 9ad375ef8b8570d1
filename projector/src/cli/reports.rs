//! The reports of an audit, for people.

use walengine_net::say;

use crate::audit::PartitionReport;
use crate::audit::compare::hex;

/// Prints the reports.
pub fn print(reports: &[PartitionReport]) {
    say!("{:<10}{:<16}{:>12}  {:<18}result", "partition", "table", "rows", "digest");
    for report in reports {
        for table in &report.tables {
            let short = |digest: &[u8; 32]| hex(&digest[..8]);
            let result = if table.is_equal() {
                "equal".to_owned()
            } else {
                format!("differs: {} in the table", short(&table.table_digest))
            };
            say!(
                "{:<10}{:<16}{:>12}  {:<18}{result}",
                report.partition.to_string(),
                table.table,
                table.rows,
                short(&table.log_digest)
            );
            for difference in &table.differences {
                say!("  {difference}");
            }
        }
    }
    for report in reports {
        let verdict = if report.is_equal() { "equal" } else { "different" };
        say!("partition {}: {verdict} at position {}", report.partition, report.position);
    }
}
