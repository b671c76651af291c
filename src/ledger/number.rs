//! Exact numbers: parts per billion and ratios. Nothing here, or anywhere in the ledger,
//! passes through a float.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text is not a number of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not plain decimal notation.
    #[error("`{text}` is not a decimal number like 0.9")]
    NotDecimal {
        /// The text, shortened to 40 characters.
        text: String,
    },
    /// More than nine decimals.
    #[error("`{text}` has more than 9 decimals")]
    TooPrecise {
        /// The text, shortened to 40 characters.
        text: String,
    },
    /// Too large for its type.
    #[error("`{text}` is larger than {max}")]
    TooLarge {
        /// The text, shortened to 40 characters.
        text: String,
        /// The largest that would do.
        max: &'static str,
    },
    /// A fraction without a positive denominator, or larger than one.
    #[error("`{text}` is not a ratio from 0 to 1 like 2/3")]
    NotRatio {
        /// The text, shortened to 40 characters.
        text: String,
    },
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Parts per billion: a weight, a power or a fraction with nine decimals.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ppb(pub u64);

impl Ppb {
    /// One.
    pub const ONE: Self = Self(1_000_000_000);

    /// The fraction `part / whole`, truncated at nine decimals; 0 of nothing is 0.
    #[must_use]
    pub fn fraction(part: u128, whole: u128) -> Self {
        let scaled = part.saturating_mul(u128::from(Self::ONE.0));
        Self(
            scaled
                .checked_div(whole)
                .and_then(|ppb| u64::try_from(ppb).ok())
                .unwrap_or(0),
        )
    }

    /// Parses a fraction from 0 to 1.
    ///
    /// # Errors
    /// Anything that is not a plain decimal of at most nine decimals and at most 1.
    pub fn unit(text: &str) -> Result<Self, NumberError> {
        let ppb: Self = text.parse()?;
        if ppb > Self::ONE {
            Err(NumberError::TooLarge {
                text: shorten(text),
                max: "1",
            })
        } else {
            Ok(ppb)
        }
    }
}

impl FromStr for Ppb {
    type Err = NumberError;

    /// Digits, then optionally a point and one to nine digits; no sign, no exponent.
    fn from_str(text: &str) -> Result<Self, NumberError> {
        let not_decimal = || NumberError::NotDecimal {
            text: shorten(text),
        };
        let (whole, decimals) = match text.split_once('.') {
            Some((_, "")) => return Err(not_decimal()),
            Some(parts) => parts,
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || !digits(whole)
            || !digits(decimals)
            || (whole.len() > 1 && whole.starts_with('0'))
        {
            return Err(not_decimal());
        }
        if decimals.len() > 9 {
            return Err(NumberError::TooPrecise {
                text: shorten(text),
            });
        }
        let too_large = || NumberError::TooLarge {
            text: shorten(text),
            max: "18446744073.709551615",
        };
        let whole: u64 = whole.parse().map_err(|_| too_large())?;
        let nanos: u64 = format!("{decimals:0<9}")
            .parse()
            .map_err(|_| not_decimal())?;
        whole
            .checked_mul(Self::ONE.0)
            .and_then(|ppb| ppb.checked_add(nanos))
            .map(Self)
            .ok_or_else(too_large)
    }
}

impl fmt::Display for Ppb {
    /// The shortest decimal that parses back to the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, nanos) = (self.0 / Self::ONE.0, self.0 % Self::ONE.0);
        if nanos == 0 {
            write!(f, "{whole}")
        } else {
            let decimals = format!("{nanos:09}");
            write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
        }
    }
}

/// An exact ratio from 0 to 1, as a policy writes it: `0.501` or `2/3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ratio {
    numerator: u64,
    denominator: u64,
}

impl Ratio {
    /// `numerator / denominator`.
    ///
    /// # Errors
    /// A denominator of zero, or a ratio above one.
    pub fn new(numerator: u64, denominator: u64) -> Result<Self, NumberError> {
        if denominator == 0 || numerator > denominator {
            return Err(NumberError::NotRatio {
                text: format!("{numerator}/{denominator}"),
            });
        }
        Ok(Self {
            numerator,
            denominator,
        })
    }

    /// Thousandths; for the constants of policies.
    #[must_use]
    pub const fn per_mille(thousandths: u16) -> Self {
        assert!(thousandths <= 1_000, "a ratio is at most one");
        Self {
            numerator: thousandths as u64,
            denominator: 1_000,
        }
    }

    /// Whether `part / whole >= self`, exactly. Both sides stay under 2^128 while `part`
    /// and `whole` stay under 2^64; larger operands saturate, which only `whole = part`
    /// beyond that bound could notice.
    #[must_use]
    pub fn is_reached_by(self, part: u128, whole: u128) -> bool {
        part.saturating_mul(u128::from(self.denominator))
            >= whole.saturating_mul(u128::from(self.numerator))
    }

    /// The least integer that is at least `self x whole`.
    #[must_use]
    pub fn ceil_of(self, whole: u64) -> u64 {
        let product = u128::from(self.numerator).saturating_mul(u128::from(whole));
        let ceiling = product.div_ceil(u128::from(self.denominator).max(1));
        u64::try_from(ceiling).unwrap_or(u64::MAX)
    }

    /// Nine decimals, truncated.
    #[must_use]
    pub fn ppb(self) -> Ppb {
        Ppb::fraction(u128::from(self.numerator), u128::from(self.denominator))
    }
}

impl FromStr for Ratio {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        let not_ratio = || NumberError::NotRatio {
            text: shorten(text),
        };
        match text.split_once('/') {
            Some((numerator, denominator)) => {
                let whole = |part: &str| {
                    let plain = part.bytes().all(|byte| byte.is_ascii_digit());
                    if plain {
                        part.parse::<u64>().ok()
                    } else {
                        None
                    }
                };
                let parts = whole(numerator)
                    .zip(whole(denominator))
                    .ok_or_else(not_ratio)?;
                Self::new(parts.0, parts.1).map_err(|_| not_ratio())
            }
            None => Self::new(Ppb::unit(text)?.0, Ppb::ONE.0),
        }
    }
}

impl fmt::Display for Ratio {
    /// A decimal where nine decimals are exact, else a fraction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ppb = self.ppb();
        let exact = u128::from(ppb.0).saturating_mul(u128::from(self.denominator))
            == u128::from(self.numerator).saturating_mul(u128::from(Ppb::ONE.0));
        if exact {
            write!(f, "{ppb}")
        } else {
            write!(f, "{}/{}", self.numerator, self.denominator)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (text, ppb) in [
            ("0", 0),
            ("1", 1_000_000_000),
            ("0.9", 900_000_000),
            ("1.000000001", 1_000_000_001),
        ] {
            assert_eq!(text.parse(), Ok(Ppb(ppb)), "{text}");
        }
        for text in [
            "",
            ".5",
            "1.",
            "-1",
            "+1",
            "1e3",
            "NaN",
            "0x1",
            "01",
            "0.1234567891",
            "18446744074",
            " 1",
            "1_0",
        ] {
            assert!(text.parse::<Ppb>().is_err(), "{text}");
        }
        assert!(Ppb::unit("1.000000001").is_err());
    }

    #[test]
    fn two_of_three_does_not_reach_0667_but_reaches_two_thirds() {
        let decimal: Ratio = "0.667".parse().unwrap();
        let exact: Ratio = "2/3".parse().unwrap();
        assert!(!decimal.is_reached_by(2, 3));
        assert!(exact.is_reached_by(2, 3));
        assert_eq!(exact.to_string(), "2/3");
        assert_eq!(decimal.to_string(), "0.667");
        for text in ["3/2", "1/0", "/", "1/", "-1/2", "1.5"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn display_parses_back(ppb in any::<u64>()) {
            prop_assert_eq!(Ppb(ppb).to_string().parse(), Ok(Ppb(ppb)));
        }

        #[test]
        fn ceil_is_the_least_that_reaches(numerator in 0u64..1000, denominator in 1u64..1000, whole in 0u64..100_000) {
            prop_assume!(numerator <= denominator);
            let ratio = Ratio::new(numerator, denominator).unwrap();
            let least = (0..=whole).find(|n| ratio.is_reached_by(u128::from(*n), u128::from(whole))).unwrap();
            prop_assert_eq!(ratio.ceil_of(whole), least);
        }
    }
}
