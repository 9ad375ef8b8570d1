//! Which column is what, and the transfer of a row. Pure.

use walengine_net::model::{Code, EventId, LedgerId, Transfer, TransferFlags};
use walengine_net::names::event_id;

use super::cells::{self, Scale};
use super::names::Names;
use super::near;
use crate::cli::csv_file::records::Record;

/// Columns that a file must have, and then those that it may have.
pub const COLUMNS: [&str; 12] = [
    "id",
    "debit_account",
    "credit_account",
    "amount",
    "ledger",
    "code",
    "pending_id",
    "user_data_128",
    "user_data_64",
    "user_data_32",
    "timeout_seconds",
    "flags",
];
/// Place of the one in which the time of business is kept.
const USER_DATA_64: usize = 8;
/// So many of them are required.
pub const REQUIRED: usize = 6;
/// The row can't be read.
pub const UNREADABLE: &str = "unreadable";
/// An account of the row is on another ledger, for ever. Sent, the row would be refused for ever.
const LEDGER_DIFFERS: &str = "ledger_differs";
/// What a file of refused rows has before the columns of the file that they are from.
pub const OF_REFUSED: [&str; 3] = ["line", "verdict", "reason"];

/// How the user says that a file is to be read.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Names in the header for some of [`COLUMNS`].
    pub given: Vec<(usize, String)>,
    /// Pass over columns that are not known.
    pub ignores: bool,
    pub scale: Scale,
    /// Name in the header of the column with the time of business.
    pub time: Option<String>,
}

/// Place of each column.
#[derive(Debug)]
pub struct Columns {
    places: [Option<usize>; COLUMNS.len()],
    /// The time of business, with the name of its column.
    time: Option<(usize, String)>,
    scale: Scale,
    /// The file is one of refused rows, whose cells are protected.
    is_protected: bool,
}

/// A row that is a transfer.
#[derive(Debug)]
pub struct Row {
    pub transfer: Transfer,
    /// Places of debit and credit account in the names.
    pub accounts: [u32; 2],
}

/// A row that is none.
#[derive(Debug)]
pub struct Unreadable {
    /// In one word, for programs.
    pub word: &'static str,
    pub why: String,
    /// The next row may belong to it.
    pub may_be_linked: bool,
    /// Its id, if that much can be read.
    pub id: Option<EventId>,
}

impl Columns {
    /// Finds the columns in a header, or says what is wrong with it.
    pub fn find(header: &[String], wanted: &Wanted) -> Result<Self, String> {
        let is_protected = header.len() > OF_REFUSED.len() && header[..3] == OF_REFUSED;
        let skipped = if is_protected { OF_REFUSED.len() } else { 0 };
        for (column, name) in &wanted.given {
            if !header.contains(name) {
                let column = COLUMNS[*column];
                return Err(format!(
                    "--column {column}={name}: the header has no column {name}; it is: {}",
                    listed(header)
                ));
            }
        }
        let time = wanted.time.as_ref().map(|name| time_column(header, skipped, name, wanted));
        let time = time.transpose()?;
        let mut places: [Option<usize>; COLUMNS.len()] = [None; COLUMNS.len()];
        let mut unknown = Vec::new();
        for (place, name) in header.iter().enumerate().skip(skipped) {
            if time == Some(place) {
                continue;
            }
            let given = wanted.given.iter().find(|(_, given)| given == name).map(|one| one.0);
            let is_renamed = |column: &usize| wanted.given.iter().any(|(one, _)| one == column);
            let known = COLUMNS.iter().position(|column| column == name);
            let Some(column) = given.or(known) else {
                unknown.push((place, name));
                continue;
            };
            if given.is_none() && is_renamed(&column) {
                let other = wanted.given.iter().find(|(one, _)| *one == column);
                let other = other.map_or("", |(_, other)| other);
                return Err(format!(
                    "the header has a column {name}, and --column says that {name} is {other}: \
                     rename one of them in the file"
                ));
            }
            if let Some(first) = places[column].replace(place) {
                return Err(format!(
                    "the header has the column {name} twice, as columns {} and {}: remove one",
                    first + 1,
                    place + 1
                ));
            }
        }
        if unknown.iter().any(|(_, name)| name.eq_ignore_ascii_case("verdict")) {
            return Err("the header has a column verdict: the file is a report of what was \
                        decided, in which fields are missing, and refused rows would be posted. \
                        `walengine export` writes a file that can be imported"
                .into());
        }
        for (place, name) in &unknown {
            let nearly = COLUMNS.iter().enumerate().find(|(_, known)| near::is_nearly(name, known));
            if let Some((column, known)) = nearly {
                let hint = match places[column] {
                    Some(_) => "rename or remove it".to_owned(),
                    None => format!("name it {known}, or say --column {known}={name:?}"),
                };
                return Err(format!(
                    "column {} of the header is {name:?}, which is nearly {known}: {hint}",
                    place + 1
                ));
            }
        }
        if let Some(missing) = (0..REQUIRED).find(|&column| places[column].is_none()) {
            let name = COLUMNS[missing];
            return Err(format!(
                "the header has no column {name}; it is: {}. If it has another name, say --column \
                 {name}=NAME",
                listed(header)
            ));
        }
        if !wanted.ignores
            && let Some((place, name)) = unknown.first()
        {
            let name = if name.is_empty() { "without a name".into() } else { format!("{name:?}") };
            let more = match unknown.len() - 1 {
                0 => String::new(),
                more => format!(", and there are {more} more such columns"),
            };
            return Err(format!(
                "column {} of the header, {name}, is not one that import knows{more}: \
                 --ignore-columns passes over those; known are {}",
                place + 1,
                COLUMNS.join(", ")
            ));
        }
        if let (Some(_), Some(place)) = (time, places[USER_DATA_64]) {
            return Err(format!(
                "column {} of the header is {}, where --time keeps the time: remove one of them",
                place + 1,
                header[place]
            ));
        }
        let time = time.map(|place| (place, cells::shown_text(&header[place])));
        Ok(Self { places, time, scale: wanted.scale, is_protected })
    }

    /// The transfer of a row, or what is wrong with it. With names whose accounts were looked up, a
    /// row with another ledger than they have is wrong, too.
    pub fn read(&self, record: &Record<'_>, names: &mut Names) -> Result<Row, Unreadable> {
        let wrong = |word, why, may_be_linked| Unreadable {
            word,
            why,
            may_be_linked,
            id: self.id(record).ok(),
        };
        let flags = self.cell(record, 11).map_or(Ok(TransferFlags::default()), cells::flags);
        let flags = flags.map_err(|bad| wrong(UNREADABLE, bad.why, bad.may_be_linked))?;
        let is_linked = flags.contains(TransferFlags::LINKED);
        let row = self.with_flags(record, flags, names);
        let row = row.map_err(|why| wrong(UNREADABLE, why, is_linked))?;
        for (place, column) in row.accounts.iter().zip(&COLUMNS[1..]) {
            let (actual, ledger) = (names.actual(*place), row.transfer.ledger);
            if actual.0 != 0 && actual != ledger {
                let why = format!("ledger is {ledger}, and {column} is on ledger {actual}");
                return Err(wrong(LEDGER_DIFFERS, why, is_linked));
            }
        }
        Ok(row)
    }

    fn id(&self, record: &Record<'_>) -> Result<EventId, String> {
        cells::id(COLUMNS[0], self.required(record, 0)?).map(event_id)
    }

    fn with_flags(
        &self,
        record: &Record<'_>,
        flags: TransferFlags,
        names: &mut Names,
    ) -> Result<Row, String> {
        let id = self.id(record)?;
        let (debit, credit) = (self.account(record, 1, names)?, self.account(record, 2, names)?);
        let amount = cells::amount(self.required(record, 3)?, self.scale)?;
        let ledger = LedgerId(cells::whole(COLUMNS[4], self.required(record, 4)?)?);
        let code = Code(cells::whole(COLUMNS[5], self.required(record, 5)?)?);
        let pending = self.cell(record, 6).map(|text| cells::id(COLUMNS[6], text)).transpose()?;
        let accounts = [debit, credit].map(|account| match account {
            Ok(place) => place,
            Err(name) => names.place(name),
        });
        let booked = self.booked(record)?;
        let (user_data_64, flags) = match booked {
            Some(micros) => (micros.cast_unsigned(), flags.with(TransferFlags::BOOKED)),
            None => (self.number(record, USER_DATA_64)?, flags),
        };
        let transfer = Transfer {
            id,
            debit_account_id: names.id(accounts[0]),
            credit_account_id: names.id(accounts[1]),
            amount,
            ledger,
            code,
            pending_id: pending.map_or(EventId(0), event_id),
            user_data_128: self.number(record, 7)?,
            user_data_64,
            user_data_32: self.number(record, 9)?,
            timeout_seconds: self.number(record, 10)?,
            flags,
            ..Transfer::default()
        };
        Ok(Row { transfer, accounts })
    }

    /// The time of business in microseconds since 1970; `None` if the row has none.
    fn booked(&self, record: &Record<'_>) -> Result<Option<i64>, String> {
        let Some((place, name)) = &self.time else { return Ok(None) };
        self.cell_at(record, *place).map(|text| cells::time(name, text)).transpose()
    }

    /// The account in a column: its place, or a name that is new.
    fn account<'a>(
        &self,
        record: &Record<'a>,
        column: usize,
        names: &Names,
    ) -> Result<Result<u32, &'a str>, String> {
        let text = self.required(record, column)?;
        let known = std::str::from_utf8(text).ok().and_then(|name| names.known(name.trim()));
        match known {
            Some(place) => Ok(Ok(place)),
            None => cells::id(COLUMNS[column], text).map(Err),
        }
    }

    /// What stands in a column; `None` if nothing does.
    fn cell<'a>(&self, record: &Record<'a>, column: usize) -> Option<&'a [u8]> {
        self.cell_at(record, self.places[column]?)
    }

    fn cell_at<'a>(&self, record: &Record<'a>, place: usize) -> Option<&'a [u8]> {
        let text = record.field(place);
        let text = if self.is_protected { unprotected(text) } else { text };
        let text = text.trim_ascii();
        (!text.is_empty()).then_some(text)
    }

    fn required<'a>(&self, record: &Record<'a>, column: usize) -> Result<&'a [u8], String> {
        self.cell(record, column).ok_or_else(|| format!("{} is empty", COLUMNS[column]))
    }

    fn number<T: TryFrom<u128> + Default>(
        &self,
        record: &Record<'_>,
        column: usize,
    ) -> Result<T, String> {
        let text = self.cell(record, column);
        text.map_or(Ok(T::default()), |text| cells::whole(COLUMNS[column], text))
    }
}

/// Place of the column with the time of business, which is no other column at the same time.
fn time_column(
    header: &[String],
    skipped: usize,
    name: &str,
    wanted: &Wanted,
) -> Result<usize, String> {
    if COLUMNS.contains(&name) || wanted.given.iter().any(|(_, given)| given == name) {
        return Err(format!("--time {name}: that column has a meaning of its own"));
    }
    let mut places = (skipped..header.len()).filter(|place| header[*place] == name);
    match (places.next(), places.next()) {
        (Some(place), None) => Ok(place),
        (Some(_), Some(_)) => Err(format!("the header has the column {name} twice: remove one")),
        (None, _) => Err(format!(
            "--time {name}: the header has no column {name}; it is: {}",
            listed(header)
        )),
    }
}

/// Whether a spreadsheet may take a cell for a formula.
pub fn is_formula(cell: &[u8]) -> bool {
    let after = cell.iter().position(|&byte| byte != b'\'');
    after.is_some_and(|at| matches!(cell[at], b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r'))
}

/// A cell of a file of refused rows without the mark that makes it text.
pub fn unprotected(cell: &[u8]) -> &[u8] {
    match cell.strip_prefix(b"'") {
        Some(rest) if is_formula(rest) => rest,
        _ => cell,
    }
}

fn listed(header: &[String]) -> String {
    cells::shown_text(&header.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::csv_file::records::Records;
    use walengine_net::model::{Amount, Book};

    const H: &str = "id,debit_account,credit_account,amount,ledger,code";

    fn find(header: &str, wanted: &Wanted) -> Result<Columns, String> {
        let header: Vec<String> = header.split(',').map(str::to_owned).collect();
        Columns::find(&header, wanted)
    }

    fn error(header: &str) -> String {
        find(header, &Wanted::default()).unwrap_err()
    }

    fn read(header: &str, row: &str, wanted: &Wanted) -> Result<Row, String> {
        let mut records = Records::new();
        records.feed(format!("{header}\n{row}\n").as_bytes());
        records.end();
        let header = records.header().unwrap().unwrap();
        let columns = Columns::find(&header, wanted)?;
        let record = records.next().unwrap().unwrap();
        columns.read(&record, &mut Names::new(Book(0))).map_err(|unreadable| unreadable.why)
    }

    #[test]
    fn columns_stand_in_any_order_and_a_missing_one_is_named() {
        let header = "code,ledger,amount,credit_account,debit_account,id,flags";
        let row =
            read(header, "3,203,70000,account:1,bank:cash,9,pending|linked", &Wanted::default());
        let transfer = row.unwrap().transfer;
        assert_eq!(transfer.id, EventId(9));
        assert_eq!((transfer.amount, transfer.ledger), (Amount(70_000), LedgerId(203)));
        assert_eq!(transfer.flags, TransferFlags::PENDING.with(TransferFlags::LINKED));
        let error = error("id,debit_account,credit_account,amount,code");
        assert!(error.contains("no column ledger"), "{error}");
    }

    #[test]
    fn a_near_a_double_and_an_unknown_name_are_errors() {
        let ignores = Wanted { ignores: true, ..Wanted::default() };
        for name in ["Flags", "flag", "timeout", "Pending_ID", "amuont"] {
            assert!(
                find(&format!("{H},{name}"), &ignores).unwrap_err().contains("nearly"),
                "{name}"
            );
        }
        assert!(error(&format!("{H},amount")).contains("amount twice"));
        assert!(find(&format!("{H},amount"), &ignores).unwrap_err().contains("amount twice"));
        assert!(error(&format!("{H},memo,iban")).contains("--ignore-columns"));
        assert!(error(&format!("{H},")).contains("without a name"));
        assert!(find(&format!("{H},memo,iban,"), &ignores).is_ok());
    }

    #[test]
    fn a_report_is_refused_and_a_file_of_refused_rows_is_not() {
        let report = "partition,offset,verdict,id,debit_account,credit_account,amount,ledger,code";
        let ignores = Wanted { ignores: true, ..Wanted::default() };
        let message = find(report, &ignores).unwrap_err();
        assert!(message.contains("walengine export"), "{message}");
        assert!(error(&format!("{H},Verdict")).contains("walengine export"));
        let refused = format!("line,verdict,reason,{H}");
        let row = read(&refused, "7,unreadable,why,1,'-a,''=b,5,1,1", &Wanted::default()).unwrap();
        let mut names = Names::new(Book(0));
        assert_eq!(row.transfer.debit_account_id, names.id_of("-a"));
        assert_eq!(row.transfer.credit_account_id, names.id_of("'=b"));
    }

    #[test]
    fn a_column_of_times_becomes_the_time_of_business() {
        let wanted = Wanted { time: Some("Buchung".to_owned()), ..Wanted::default() };
        let header = format!("{H},Buchung,flags");
        let row = |cell: &str| read(&header, &format!("1,a,b,5,1,1,{cell},linked"), &wanted);
        let transfer = row("1993-03-01").unwrap().transfer;
        assert_eq!(transfer.booked_micros(), Some(730_944_000_000_000));
        assert_eq!(transfer.flags, TransferFlags::BOOKED.with(TransferFlags::LINKED));
        let before = row("1969-12-31T23:59:59.999999Z").unwrap().transfer;
        assert_eq!((before.booked_micros(), before.user_data_64), (Some(-1), u64::MAX));
        let without = row("").unwrap().transfer;
        assert_eq!((without.booked_micros(), without.flags), (None, TransferFlags::LINKED));
        let wrong = row("1993-02-29").unwrap_err();
        assert!(wrong.starts_with("Buchung is \"1993-02-29\", "), "{wrong}");
        let protected = format!("line,verdict,reason,{header}");
        let again = read(&protected, "7,unreadable,why,1,a,b,5,1,1,1993-03-01,", &wanted).unwrap();
        assert_eq!(again.transfer.booked_micros(), transfer.booked_micros());

        for (name, header, said) in [
            ("date", H.to_owned(), "no column date"),
            ("date", format!("{H},date,date"), "date twice"),
            ("date", format!("{H},date,user_data_64"), "where --time keeps the time"),
            ("code", H.to_owned(), "a meaning of its own"),
        ] {
            let wanted = Wanted { time: Some(name.to_owned()), ..Wanted::default() };
            let error = find(&header, &wanted).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn columns_get_the_names_that_the_user_gives() {
        let given = vec![(3, "Betrag".to_owned())];
        let wanted = Wanted { given, ..Wanted::default() };
        let header = "id,debit_account,credit_account,Betrag,ledger,code";
        assert_eq!(read(header, "1,a,b,5,1,1", &wanted).unwrap().transfer.amount, Amount(5));
        assert!(find(&format!("{header},amount"), &wanted).unwrap_err().contains("rename"));
        assert!(find(H, &wanted).unwrap_err().contains("no column Betrag"));
        assert!(find(&format!("{header},Betrag"), &wanted).unwrap_err().contains("twice"));
    }

    #[test]
    fn what_a_spreadsheet_runs_is_protected_and_comes_back() {
        for cell in ["=1", "+1", "-1", "@x", "\tx", "'=1", "''-1"] {
            assert!(is_formula(cell.as_bytes()), "{cell}");
            assert_eq!(unprotected(format!("'{cell}").as_bytes()), cell.as_bytes());
        }
        for cell in ["", "1", "a=1", "'", "'a", " =1"] {
            assert!(!is_formula(cell.as_bytes()), "{cell}");
            assert_eq!(unprotected(cell.as_bytes()), cell.as_bytes());
        }
    }
}
