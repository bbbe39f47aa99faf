"""Recipes: the files, those that ship with the toolkit, and the default one."""
