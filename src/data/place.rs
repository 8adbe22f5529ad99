//! Where an entry lies, as far as that matters.

/// One of the two names with a meaning: the labels of the pictures beside and below it.
const LABELS_NAME: &[u8] = b"dataset.json";
/// The other one: what the owner of the pictures allows.
const POLICY_NAME: &[u8] = b"c2d-policy.json";

/// Where an entry was found.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub asset_idx: usize,
    /// Files on disk of one asset, or one archive: the reach of a `dataset.json`.
    pub container: usize,
    /// Folders and name, outer archives' folders first.
    pub path: Vec<u8>,
}

impl Place {
    pub(super) fn child(&self, name: &[u8]) -> Self {
        let mut path = self.path.clone();
        for part in name.split(|&byte| byte == b'/').filter(|part| !matches!(*part, b"" | b".")) {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        Self { path, ..*self }
    }

    /// The folder this entry lies in.
    pub(super) fn folder(&self) -> &[u8] {
        let end = self.path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        &self.path[..end]
    }

    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.path.split(|&byte| byte == b'/')
    }

    pub(super) fn is_hidden(&self) -> bool {
        const SYSTEM: [&[u8]; 4] = [b"__MACOSX", b"Thumbs.db", b"desktop.ini", b"ehthumbs.db"];
        self.parts().any(|part| (part.starts_with(b".") && part != b"..") || SYSTEM.contains(&part))
    }

    pub(super) fn is_labels(&self) -> bool {
        self.parts().last() == Some(LABELS_NAME)
    }

    pub(super) fn is_policy(&self) -> bool {
        self.parts().last() == Some(POLICY_NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &[u8]) -> Place {
        Place { asset_idx: 0, container: 0, path: Vec::new() }.child(path)
    }

    #[test]
    fn paths_are_folded_to_their_parts() {
        assert_eq!(place(b"/a//./b/c.png").path, b"a/b/c.png");
        assert_eq!(place(b"a/b/c.png").folder(), b"a/b");
        assert_eq!(place(b"c.png").folder(), b"");
        assert_eq!(place(b"../x\xff").path, b"../x\xff");
        assert_eq!(place(b"").path, b"");
    }

    #[test]
    fn system_entries_are_hidden() {
        for path in
            [&b".DS_Store"[..], b"__MACOSX/a.png", b"a/.b/c.png", b"a/._c.png", b"Thumbs.db"]
        {
            assert!(place(path).is_hidden());
        }
        for path in [&b"a.png"[..], b"../a.png", b"__MACOSX2/a.png"] {
            assert!(!place(path).is_hidden());
        }
    }
}
