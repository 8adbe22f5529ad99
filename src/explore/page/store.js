// What this browser keeps for the page, where it keeps anything.

// The text under a name, or null.
export function stored(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

// Keeps a text; false: this browser keeps nothing.
export function store(name, text) {
  try {
    localStorage.setItem(name, text);
    return true;
  } catch {
    return false;
  }
}
