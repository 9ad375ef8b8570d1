//! Rows with amounts of money: the one place where commands print them, so that none can say them otherwise.
//!
//! Programs (CSV and JSON) get minor units under the plain name, and beside it `<name>_decimal`, as HTTP has it: the
//! same with the decimals of the ledger, or empty where these are not known. People (text) get one amount, with decimals.

use super::amounts::Decimals;
use super::output::{Format, Output};
use crate::fatal::Fatal;

/// Behind the name of a column of amounts: that of the same with decimals.
const SUFFIX: &str = "_decimal";

/// See the module.
pub struct MoneyRows {
    output: Output,
    is_text: bool,
    /// Columns of amounts.
    places: Vec<usize>,
}

impl MoneyRows {
    /// Prints the heading. Those `columns` whose names are among `amounts` have amounts; the columns with their decimals
    /// follow all others, so that whoever counts columns finds them where they were.
    pub fn new(format: Format, columns: &[(&str, usize)], amounts: &[&str]) -> Result<Self, Fatal> {
        let is_text = format == Format::Text;
        let places: Vec<usize> = columns
            .iter()
            .enumerate()
            .filter_map(|(place, (name, _))| amounts.contains(name).then_some(place))
            .collect();
        let with_decimals: Vec<String> =
            places.iter().map(|place| format!("{}{SUFFIX}", columns[*place].0)).collect();
        let mut all = columns.to_vec();
        if !is_text {
            all.extend(with_decimals.iter().map(|name| (name.as_str(), 0)));
        }
        Ok(Self { output: Output::new(format, &all)?, is_text, places })
    }

    /// Prints one row with a value for each column, amounts in minor units.
    pub fn row(&mut self, values: &[String], decimals: Decimals) -> Result<(), Fatal> {
        self.output.row(&cells(values, &self.places, decimals, self.is_text))
    }

    /// Flushes standard output.
    pub fn flush(&mut self) -> Result<(), Fatal> {
        self.output.flush()
    }
}

fn cells(values: &[String], places: &[usize], decimals: Decimals, is_text: bool) -> Vec<String> {
    let mut cells = values.to_vec();
    for place in places {
        let shown = decimals.cell(&values[*place]);
        if is_text {
            cells[*place] = shown;
        } else {
            cells.push(decimals.scale().map_or_else(String::new, |_| shown));
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_get_minor_units_and_decimals_beside_them_and_people_get_one_amount() {
        let values = ["a", "1230", "-5", ""].map(str::to_owned);
        let cents = Decimals::default().or(Some(2));
        let of = |decimals, is_text| cells(&values, &[1, 2, 3], decimals, is_text);
        assert_eq!(of(cents, false), ["a", "1230", "-5", "", "12.30", "-0.05", ""]);
        assert_eq!(of(Decimals::default(), false), ["a", "1230", "-5", "", "", "", ""]);
        assert_eq!(of(cents, true), ["a", "12.30", "-0.05", ""]);
        assert_eq!(of(Decimals::default(), true), values);
    }
}
