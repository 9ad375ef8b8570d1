//! Names of people and companies that do not exist.

use super::rows::Currency;

/// What names of one currency's customers are made of.
struct Pool {
    first: &'static [&'static str],
    last: &'static [&'static str],
    /// How a company's name ends.
    forms: &'static [&'static str],
}

const EUR: Pool = Pool {
    first: &[
        "Anna", "Lukas", "Sofia", "Mateo", "Emma", "Noah", "Chiara", "Hugo", "Ines", "Jonas",
        "Marta", "Pavel", "Elena", "Tomas", "Klara", "Aino", "Mikko", "Petra", "Rui", "Louise",
        "Bruno", "Katrin", "Niamh", "Stefan", "Zuzana", "Giulia", "Andrei", "Femke", "Olivier",
    ],
    last: &[
        "Novak", "Fischer", "Rossi", "Garcia", "Dubois", "Virtanen", "Silva", "Kowalski", "Jansen",
        "Murphy", "Horvat", "Petrou", "Lindholm", "Moreau", "Becker", "Conti", "Ferreira",
        "Svoboda", "Keller", "Bakker", "Marino", "Laine", "Popescu", "Weber", "Castillo",
        "Peeters", "Byrne", "Hofer", "Leroy", "Romano", "Kask",
    ],
    forms: &["GmbH", "S.A.", "B.V.", "Oy", "S.r.l.", "AG"],
};

const USD: Pool = Pool {
    first: &[
        "James", "Olivia", "Ethan", "Ava", "Mason", "Harper", "Logan", "Grace", "Caleb", "Naomi",
        "Marcus", "Elise", "Dylan", "Ruth", "Isaac", "Maya", "Owen",
    ],
    last: &[
        "Carter", "Bennett", "Hayes", "Sullivan", "Brooks", "Ramirez", "Foster", "Nguyen", "Price",
        "Coleman", "Whitaker", "Hughes", "Patel", "Morgan", "Shaw", "Ellis", "Vance", "Ortiz",
        "Keane",
    ],
    forms: &["Inc.", "LLC", "Corp."],
};

const JPY: Pool = Pool {
    first: &[
        "Haruto", "Yui", "Ren", "Aoi", "Sota", "Mei", "Daiki", "Hina", "Kaito", "Sakura", "Takumi",
    ],
    last: &[
        "Sato", "Suzuki", "Inoue", "Tanaka", "Watanabe", "Ito", "Yamamoto", "Nakamura", "Hayashi",
        "Kato", "Yoshida", "Yamada", "Mori",
    ],
    forms: &["K.K.", "G.K."],
};

/// What a company's name begins with.
const BEGINNINGS: [&str; 23] = [
    "Nordwind", "Kestrel", "Harbour", "Aurora", "Longford", "Lumen", "Cedar", "Meridian",
    "Redfield", "Falcon", "Riverton", "Juniper", "Summit", "Orchard", "Beacon", "Granite", "Swift",
    "Willow", "Atlas", "Copper", "Linden", "Marble", "Sterling",
];

/// What companies that pay salaries do, those that let homes, and those that sell.
pub const EMPLOYERS: &[&str] =
    &["Logistics", "Software", "Engineering", "Insurance", "Shipyards", "Clinics", "Airlines"];
/// See [`EMPLOYERS`].
pub const LANDLORDS: &[&str] = &["Homes", "Estates", "Housing", "Residences", "Properties"];
/// See [`EMPLOYERS`].
pub const MERCHANTS: &[&str] = &[
    "Foods", "Books", "Pharmacy", "Coffee", "Market", "Fashion", "Garden", "Sports", "Fuel",
    "Cinema", "Bakery",
];

const fn pool(currency: Currency) -> &'static Pool {
    match currency {
        Currency::Eur => &EUR,
        Currency::Usd => &USD,
        Currency::Jpy => &JPY,
    }
}

/// The `number`-th person of a currency; no two have the same name.
pub fn person(currency: Currency, number: usize) -> String {
    let Pool { first, last, .. } = pool(currency);
    // The lengths of the lists have no common factor, so each pair comes once.
    let (given, family) = (first[number % first.len()], last[number % last.len()]);
    match number / (first.len() * last.len()) {
        0 => format!("{given} {family}"),
        round @ 1..=26 => {
            let initial = char::from(b'A' + (round - 1) as u8);
            format!("{given} {initial}. {family}")
        }
        round => format!("{given} {family} {round}"),
    }
}

/// The `number`-th company of a currency in one trade; no two have the same name.
pub fn company(currency: Currency, trades: &[&str], number: usize) -> String {
    let forms = pool(currency).forms;
    let (beginning, trade) = (BEGINNINGS[number % BEGINNINGS.len()], trades[number % trades.len()]);
    let form = forms[number / (BEGINNINGS.len() * trades.len()) % forms.len()];
    match number / (BEGINNINGS.len() * trades.len() * forms.len()) {
        0 => format!("{beginning} {trade} {form}"),
        round => format!("{beginning} {trade} {} {form}", round + 1),
    }
}
