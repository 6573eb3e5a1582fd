//! Subjects of certificates: writing the few fields that we set, and rendering any of them as text.

use rcgen::{DistinguishedName, DnType, DnValue, string::PrintableString};
use x509_parser::x509::X509Name;

use crate::AuthorityError;

/// Longest value of a field, in bytes (RFC 5280 appendix A: `ub-common-name` and its siblings are 64).
const MAX_FIELD_BYTES: usize = 64;

/// The fields of a subject that we write; an absent one is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// `C`, two letters.
    pub country: Option<String>,
    /// `O`.
    pub organization: Option<String>,
    /// `OU`.
    pub organizational_unit: Option<String>,
    /// `CN`.
    pub common_name: Option<String>,
}

impl Subject {
    /// What SPIRE writes into workloads' SVIDs: `C=US, O=SPIRE`.
    #[must_use]
    pub fn svid_default() -> Self {
        Self { country: Some("US".to_owned()), organization: Some("SPIRE".to_owned()), ..Self::default() }
    }

    /// What SPIRE writes into CA certificates: `C=US, O=SPIFFE`.
    #[must_use]
    pub fn ca_default() -> Self {
        Self { country: Some("US".to_owned()), organization: Some("SPIFFE".to_owned()), ..Self::default() }
    }

    /// Whether no field is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn read(name: &X509Name<'_>) -> Self {
        let first = |mut values: Box<
            dyn Iterator<Item = &x509_parser::x509::AttributeTypeAndValue<'_>> + '_,
        >| { values.next().and_then(|value| value.as_str().ok()).map(str::to_owned) };
        Self {
            country: first(Box::new(name.iter_country())),
            organization: first(Box::new(name.iter_organization())),
            organizational_unit: first(Box::new(name.iter_organizational_unit())),
            common_name: first(Box::new(name.iter_common_name())),
        }
    }

    /// Appends the fields in X.500's usual order. Text that fits is a `PrintableString`, as Go writes it, so
    /// that names compare equal byte by byte.
    pub(crate) fn write(&self, name: &mut DistinguishedName) -> Result<(), AuthorityError> {
        let fields = [
            (DnType::CountryName, "the country", &self.country),
            (DnType::OrganizationName, "the organization", &self.organization),
            (DnType::OrganizationalUnitName, "the organizational unit", &self.organizational_unit),
            (DnType::CommonName, "the common name", &self.common_name),
        ];
        for (kind, field, value) in fields {
            let Some(value) = value else { continue };
            if value.is_empty() || value.len() > MAX_FIELD_BYTES {
                return Err(AuthorityError::Field { field, value: value.clone() });
            }
            name.push(kind, dn_value(value));
        }
        Ok(())
    }
}

/// `PrintableString` where the characters allow it, else `UTF8String`.
pub(crate) fn dn_value(text: &str) -> DnValue {
    PrintableString::try_from(text)
        .map_or_else(|_| DnValue::Utf8String(text.to_owned()), DnValue::PrintableString)
}

/// A distinguished name by RFC 2253: last field first, special characters escaped. Empty for an empty name.
pub(crate) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut names = name
        .iter_rdn()
        .map(|rdn| {
            rdn.iter()
                .map(|field| {
                    let oid = field.attr_type().to_id_string();
                    match (short_name(&oid), field.as_str()) {
                        (Some(label), Ok(value)) => format!("{label}={}", escape(value)),
                        (None, Ok(value)) => format!("{oid}={}", escape(value)),
                        (label, Err(_)) => {
                            format!("{}=#{}", label.unwrap_or(&oid), hex::encode(field.as_slice()))
                        }
                    }
                })
                .collect::<Vec<_>>()
                .join("+")
        })
        .collect::<Vec<_>>();
    names.reverse();
    names.join(",")
}

fn short_name(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.45" => "x500UniqueIdentifier",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

/// RFC 2253 §2.4.
fn escape(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(value.len());
    for (position, character) in value.chars().enumerate() {
        let special = matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (position == 0 && matches!(character, ' ' | '#'))
            || (position == last && character == ' ');
        if special {
            out.push('\\');
        }
        if character.is_control() {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                out.push('\\');
                out.push_str(&hex::encode_upper([byte]));
            }
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(escape("a,b+c"), "a\\,b\\+c");
        assert_eq!(escape(" #a "), "\\ #a\\ ");
        assert_eq!(escape("#"), "\\#");
        assert_eq!(escape("a\nb"), "a\\0Ab");
    }
}
