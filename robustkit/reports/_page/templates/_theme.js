// The choice of light or dark, before anything is shown. A file may not be allowed to remember.
try {
  const chosen = localStorage.getItem("robustkit-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch (error) { /* the preference of the system holds */ }
