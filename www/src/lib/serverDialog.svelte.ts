// Whether the server dialog is open: an error's button opens it from anywhere on the page.

export const serverDialog = $state({ open: false });
