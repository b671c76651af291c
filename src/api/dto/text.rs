//! How ids, times and exact numbers look in JSON.

use std::fmt::Display;

use aegis_ledger::{LedgerTime, NumberError, Ppb};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Whatever has one text, as a string.
pub(crate) struct Text<T>(pub(crate) T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A time as RFC 3339 in UTC.
pub(crate) struct Time(pub(crate) LedgerTime);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.rfc3339())
    }
}

/// A decimal as a JSON number with all its digits.
pub(crate) struct Decimal(pub(crate) Ppb);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_string())
            .map_err(S::Error::custom)?
            .serialize(serializer)
    }
}

/// The digits that an exponent may shift a number by; no number that counts needs more.
const EXPONENT_MAX: u32 = 30;

/// Reads a JSON number exactly. Languages write small numbers with an exponent, so one is
/// understood; what is left must be a decimal that [`Ppb`] takes.
pub(crate) fn ppb(number: &str) -> Result<Ppb, NumberError> {
    let not_decimal = || NumberError::NotDecimal {
        text: number.chars().take(40).collect(),
    };
    let Some((mantissa, exponent)) = number.split_once(['e', 'E']) else {
        return number.parse();
    };
    let exponent: i32 = exponent.parse().map_err(|_| not_decimal())?;
    if exponent.unsigned_abs() > EXPONENT_MAX {
        return Err(not_decimal());
    }
    let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zeros = "0".repeat(usize::try_from(EXPONENT_MAX).map_err(|_| not_decimal())?);
    let digits = format!("{zeros}{whole}{decimals}{zeros}");
    let point = i32::try_from(zeros.len() + whole.len()).map_err(|_| not_decimal())? + exponent;
    let point = usize::try_from(point).map_err(|_| not_decimal())?;
    let (whole, decimals) = digits.split_at_checked(point).ok_or_else(not_decimal)?;
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    match decimals.trim_end_matches('0') {
        "" => whole.parse(),
        decimals => format!("{whole}.{decimals}").parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_exponents_are_exact() {
        for (text, expected) in [
            ("0.9", "0.9"),
            ("9e-1", "0.9"),
            ("9E-1", "0.9"),
            ("0.9e0", "0.9"),
            ("1e-05", "0.00001"),
            ("1.5e-8", "0.000000015"),
            ("1e0", "1"),
            ("10e-1", "1"),
            ("0.01e+2", "1"),
            ("0e30", "0"),
        ] {
            assert_eq!(
                ppb(text).map(|ppb| ppb.to_string()),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
        for text in [
            "-0.1",
            "-1e-1",
            "1e-10",
            "1e31",
            "1e-31",
            "1e30",
            "1e2147483647",
            "1e-2147483648",
            "1e99999999999",
            "1e",
            "9e-1e1",
            "0.1234567891",
        ] {
            assert!(ppb(text).is_err(), "{text}");
        }
    }

    #[test]
    fn decimals_are_numbers_in_json() {
        let json = serde_json::to_string(&[Decimal(Ppb(490_196_078)), Decimal(Ppb::ONE)]).unwrap();
        assert_eq!(json, "[0.490196078,1]");
    }
}
