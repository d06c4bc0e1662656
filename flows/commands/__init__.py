"""The commands of `kawan-usaha`, grouped by what they work on."""
