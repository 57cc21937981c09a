SELECT beats FROM store_probe WHERE id = 1
