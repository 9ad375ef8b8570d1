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
        for difference in &report.across {
            say!("  {difference}");
        }
    }
    for report in reports {
        let PartitionReport { partition, position, under_way, .. } = report;
        let verdict = if report.is_equal() { "equal" } else { "different" };
        // A partition that is alone has nobody to send to.
        let sent =
            if reports.len() > 1 { format!(", {under_way} under way") } else { String::new() };
        say!("partition {partition}: {verdict} at position {position}{sent}");
    }
}
