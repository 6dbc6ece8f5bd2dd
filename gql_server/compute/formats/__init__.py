"""SAEs from and for other libraries."""
