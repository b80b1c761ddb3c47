document.documentElement.dataset.script = "yes";
// Before anything is drawn: the theme that was chosen here, if one was.
try {
    const theme = localStorage.getItem("holdfast-theme");
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch { /* a browser may keep nothing; then the system's theme holds */ }
