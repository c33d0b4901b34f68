//! Addresses and ranges of addresses: `10.0.0.1`, `10.0.0.0/8`, `10.0.0.1-10.0.0.9`, and the same for IPv6.

use std::net::IpAddr;

/// Both ends included; IPv4 and IPv6 never match each other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IpRange {
    first: IpAddr,
    last: IpAddr,
}

impl IpRange {
    pub(crate) fn parse(pattern: &str) -> Result<Self, String> {
        let invalid = || format!("ip: invalid pattern: {pattern:?}");
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| invalid());
        if let Some((base, bits)) = pattern.split_once('/') {
            return network(address(base)?, bits.parse().map_err(|_| invalid())?).ok_or_else(invalid);
        }
        let (first, last) = match pattern.split_once('-') {
            Some((first, last)) => (address(first)?, address(last)?),
            None => (address(pattern)?, address(pattern)?),
        };
        if first.is_ipv4() != last.is_ipv4() || first > last {
            return Err(invalid());
        }
        Ok(Self { first, last })
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && self.first <= address && address <= self.last
    }

    /// Whether an address of this range stands anywhere in `line`.
    pub(crate) fn is_in(&self, line: &str) -> bool {
        let is_part = |character: char| character.is_ascii_hexdigit() || matches!(character, '.' | ':');
        line.split(|character: char| !is_part(character)).filter(|word| word.len() >= 2).any(|word| self.word_matches(word))
    }

    /// `10.0.0.1`, `10.0.0.1:8080`, and what punctuation or neighbouring letters leave around it.
    fn word_matches(&self, word: &str) -> bool {
        let word = word.trim_end_matches(['.', ':']);
        if let Ok(address) = word.parse() {
            return self.contains(address);
        }
        if !self.first.is_ipv4() {
            return false;
        }
        word.split(':').any(|part| {
            let part = part.trim_matches(|character: char| !character.is_ascii_digit());
            part.parse().is_ok_and(|address| self.contains(address))
        })
    }
}

fn network(base: IpAddr, bits: u32) -> Option<IpRange> {
    match base {
        IpAddr::V4(base) => {
            let host = (bits <= 32).then(|| u32::MAX.checked_shr(bits).unwrap_or(0))?;
            let first = base.to_bits() & !host;
            Some(IpRange { first: IpAddr::V4(first.into()), last: IpAddr::V4((first | host).into()) })
        }
        IpAddr::V6(base) => {
            let host = (bits <= 128).then(|| u128::MAX.checked_shr(bits).unwrap_or(0))?;
            let first = base.to_bits() & !host;
            Some(IpRange { first: IpAddr::V6(first.into()), last: IpAddr::V6((first | host).into()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_addresses() {
        for (pattern, line, expect) in [
            ("192.168.1.0/24", "src 192.168.1.10 ok", true),
            ("192.168.1.0/24", "src=192.168.1.10:80.", true),
            ("10.0.0.1-10.0.0.9", "from 10.0.0.10", false),
            ("10.0.0.1-10.0.0.9", "[10.0.0.9]", true),
            ("0.0.0.0/0", "no address 1.2.3", false),
            ("2001:db8::/32", "peer [2001:db8::7] gone", true),
        ] {
            assert_eq!(IpRange::parse(pattern).expect(pattern).is_in(line), expect, "{pattern} {line}");
        }
        for wrong in ["", "notanip", "10.0.0.0/33", "10.0.0.9-10.0.0.1", "::1-10.0.0.1"] {
            assert!(IpRange::parse(wrong).is_err(), "{wrong}");
        }
    }
}
