//! Reads sales from CSV, plain or gzipped, and names every invalid row.
//!
//! Columns are found by their names (`price`, `sqft`, `bedrooms`, `bathrooms`, `year_built`, `condition`, `zipcode`,
//! `location`), so order and further columns do not matter.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;

use crate::house::{BUILD_YEARS, House, Location};

/// The most CSV that is read, decompressed: 200 times the King County sales. Keeps a small gzip from filling the memory.
const DATA_BYTES_MAX: u64 = 256 << 20;
/// The required columns.
const COLUMNS: [&str; 8] =
    ["price", "sqft", "bedrooms", "bathrooms", "year_built", "condition", "zipcode", "location"];
/// How many characters of a wrong header an error shows: the file may be anything.
const HEADER_SHOWN_MAX: usize = 200;
/// How many invalid rows an error lists; the rest are only counted.
const PROBLEMS_MAX: usize = 20;

/// One sale.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Sale {
    /// Price in dollars, above 0.
    pub price: f64,
    /// Living area in square feet, above 0.
    pub sqft: f64,
    /// At least 1.
    pub bedrooms: i64,
    /// Above 0.
    pub bathrooms: f64,
    /// 1800 to 2030.
    pub year_built: i64,
    /// 1–5.
    pub condition: u8,
    /// The zip code; any name of a small area will do.
    #[serde(rename = "zipcode")]
    pub zip_code: String,
    /// The kind of area: urban, suburban or rural; any name will do.
    #[serde(rename = "location")]
    pub area: String,
}

/// Why sales cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SalesError {
    /// The file cannot be opened.
    #[error("cannot read {}", path.display())]
    Open {
        /// The path of the options.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is not CSV.
    #[error("not a CSV file")]
    Csv(#[from] csv::Error),
    /// Columns are missing.
    #[error("columns are missing: {}; the header has: {header}", missing.join(", "))]
    Columns {
        /// The names of the missing columns.
        missing: Vec<&'static str>,
        /// The header of the file, shortened.
        header: String,
    },
    /// Some rows are invalid.
    #[error("{count} invalid rows:\n{}", listed.join("\n"))]
    Rows {
        /// The number of invalid rows.
        count: usize,
        /// The first of them, each with its line and the reason.
        listed: Vec<String>,
    },
    /// The data is larger than the limit.
    #[error("the sales are larger than {} MiB; train on a part of them", DATA_BYTES_MAX >> 20)]
    TooLarge,
}

/// Reads the sales of a file; gzip is recognised by its first two bytes, not by the file's name.
pub(super) fn read_file(path: &Path) -> Result<Vec<Sale>, SalesError> {
    let open_error = |source| SalesError::Open { path: path.to_owned(), source };
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(2).read_to_end(&mut start)).map_err(open_error)?;
    let file = BufReader::new(File::open(path).map_err(open_error)?);
    if start == [0x1f, 0x8b] { read_sales(MultiGzDecoder::new(file)) } else { read_sales(file) }
}

/// Reads sales from CSV.
///
/// # Errors
/// Returns the number of invalid rows, and the first twenty with line and reason.
pub fn read_sales(input: impl Read) -> Result<Vec<Sale>, SalesError> {
    let mut limited = input.take(DATA_BYTES_MAX + 1);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(&mut limited);
    let (mut sales, mut count, mut listed) = (Vec::new(), 0, Vec::new());
    let headers = columns(&mut reader)?;
    let mut record = csv::StringRecord::new();
    loop {
        let row = match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => record.deserialize::<Sale>(Some(&headers)).map_err(|error| reason(&error)),
            Err(error) if error.is_io_error() => return Err(error.into()),
            Err(error) => Err(reason(&error)),
        };
        match row.and_then(Sale::checked) {
            Ok(sale) => sales.push(sale),
            Err(why) => {
                count += 1;
                if listed.len() < PROBLEMS_MAX {
                    let line = record.position().map_or(0, csv::Position::line);
                    listed.push(format!("  line {line}: {why}"));
                }
            }
        }
    }
    drop(reader);
    if limited.limit() == 0 {
        return Err(SalesError::TooLarge);
    }
    if count > 0 { Err(SalesError::Rows { count, listed }) } else { Ok(sales) }
}

/// Returns the header if it names every column.
fn columns(reader: &mut csv::Reader<impl Read>) -> Result<csv::StringRecord, SalesError> {
    let headers = reader.headers()?.clone();
    let missing: Vec<_> =
        COLUMNS.into_iter().filter(|column| !headers.iter().any(|header| header == *column)).collect();
    if missing.is_empty() {
        return Ok(headers);
    }
    let names: Vec<&str> = headers.iter().collect();
    Err(SalesError::Columns { missing, header: names.join(", ").chars().take(HEADER_SHOWN_MAX).collect() })
}

/// Returns the reason without the position, which the caller adds.
fn reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields, but the header has {expected_len}")
        }
        _ => error.to_string(),
    }
}

impl Sale {
    /// Checks the values; the error names everything wrong in one sentence.
    fn checked(self) -> Result<Self, String> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let wrong: Vec<&str> = [
            (positive(self.price), "price must be above 0"),
            (positive(self.sqft), "sqft must be above 0"),
            (self.bedrooms >= 1, "bedrooms must be at least 1"),
            (positive(self.bathrooms), "bathrooms must be above 0"),
            (BUILD_YEARS.contains(&self.year_built), "year_built must be 1800 to 2030"),
            ((1..=5).contains(&self.condition), "condition must be 1 to 5"),
            (!self.zip_code.is_empty(), "zipcode must not be empty"),
            (!self.area.is_empty(), "location must not be empty"),
        ]
        .into_iter()
        .filter_map(|(holds, rule)| (!holds).then_some(rule))
        .collect();
        if wrong.is_empty() { Ok(self) } else { Err(wrong.join("; ")) }
    }

    /// Returns the house that was sold, at `location`.
    pub(super) fn house(&self, location: Location) -> House {
        House {
            sqft: self.sqft,
            bedrooms: self.bedrooms,
            bathrooms: self.bathrooms,
            year_built: self.year_built,
            condition: self.condition,
            location,
        }
    }
}
